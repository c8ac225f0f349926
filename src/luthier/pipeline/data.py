"""Preparation by itself: rows read, split and put through steps, without a recipe or a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .. import __version__
from ..core.errors import LuthierError, RecipeError
from ..core.files import file_aside
from ..core.problems import problems_of
from ..core.recipe import Data, Source
from ..core.run import digest_of
from ..data.inputs import Inputs
from ..data.large import LARGE, size_of
from ..data.ledger import Ledger
from ..data.prepare import Prepared
from ..data.prepare import prepare as prepare_data
from ..data.shelf import Disk
from ..data.show import ShownFile, show
from ..data.store import write_examples
from ..data.write import write_records

__all__ = ["is_large", "ledger_file", "prepare", "shown"]


def prepare(
    train: Any,
    steps: Sequence[Any] = (),
    *,
    seed: int = 1,
    out: str | Path | None = None,
    work: str | Path | None = None,
    **data: Any,
) -> Prepared:
    """Prepares rows as a run would; further arguments are the recipe's under `data` (format, columns, validation...).

    train: a file, folder, hub id, or a list of them. steps: names, {name: {parameter: value}}, or steps already built.
    out: where the training split is written, .jsonl for records or .parquet for everything; its ledger goes beside it.
    work: a folder in which rows lie while they are prepared, for more of them than memory holds. What was broken off
    goes on there. The result is read from it: delete it when that is not needed any more.
    Errors: RecipeError for wrong arguments, DataError as data.prepare, MachineError where nothing can be written.
    """
    suffix = None if out is None else Path(out).suffix
    if suffix not in (None, ".jsonl", ".parquet"):
        raise LuthierError(
            f"prepared rows are not written as '{suffix}'",
            where=str(out),
            expected="a name that ends in .jsonl or .parquet",
        )
    path_of = train.get("path") if isinstance(train, Mapping) else train
    if out is not None and isinstance(path_of, (str, Path)) and Path(path_of).resolve() == Path(out).resolve():
        raise LuthierError(
            "the prepared rows would take the place of those they are made from",
            where=str(out),
            expected="another file for the result",
        )
    given = _data_of({"train": train, "steps": tuple(steps), **data})
    found = prepare_data(given, seed, None if work is None else Disk(Path(work) / _digest(given, seed)))
    if out is not None:
        path = Path(out)
        (write_records if suffix == ".jsonl" else write_examples)(path, found.splits["train"])
        _write_ledger(ledger_file(path), found.ledger)
    return found


def shown(path: str | Path, rows: int = 3, **source: Any) -> list[ShownFile]:
    """What a source holds as a recipe would read it, file by file, with the first `rows` of each.

    source: further keys of a source in a recipe (format, columns, header, limit). Errors: RecipeError for wrong ones,
    DataError for what cannot be read at all; a format that is not told is a file's `problem`.
    """
    try:
        given = Source.model_validate({"path": str(path), **source})
    except ValidationError as error:
        raise RecipeError(problems_of(error, Source, prefix="data.train")) from error
    return list(show(given, rows))


def is_large(train: Any) -> bool:
    """Whether the rows are so many that they should lie in a folder while they are prepared (`work`).

    Errors: RecipeError for a source that says something wrong.
    """
    return size_of(_data_of({"train": train})) > LARGE


def ledger_file(out: Path) -> Path:
    """Where the ledger of rows written to `out` lies."""
    return out.with_suffix(".ledger.jsonl")


def _data_of(given: Mapping[str, Any]) -> Data:
    try:
        return Data.model_validate(given)
    except ValidationError as error:
        raise RecipeError(problems_of(error, Data, prefix="data")) from error


def _digest(data: Data, seed: int) -> str:
    """Of what the result depends on: what lies in the folder for anything else is not gone on with."""
    files = Inputs().of_data(data)
    return digest_of({"data": data.model_dump(mode="json"), "files": files, "seed": seed, "luthier": __version__})[:16]


def _write_ledger(path: Path, ledger: Ledger) -> None:
    with file_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        for entry in ledger.entries:
            plain = {key: value for key, value in asdict(entry).items() if value is not None}
            file.write(json.dumps(plain, ensure_ascii=False) + "\n")
