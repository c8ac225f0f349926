"""Data sets of the Hugging Face hub, owner/name[:configuration][@revision][#split], and folders in its manner,
FOLDER#split, through the package `datasets`: files that are named for their splits, and what save_to_disk wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import DataError, MissingExtra, Problem, first_line, nearest
from .records import data_suffix
from .unpack import refuse_beyond_memory

__all__ = ["folder_of", "hub_records", "looks_like_hub", "split_problems"]

_MANY, _ONE = "dataset_dict.json", "state.json"
"""What save_to_disk writes beside the splits, and beside the rows of one."""
_UNKNOWN = re.compile(r"Unknown split|BuilderConfig .* not found")
_ID = re.compile(
    r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<configuration>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?(?:#(?P<split>[\w.-]+))?"
)


def looks_like_hub(path: str) -> bool:
    """Whether a path that is no file can be meant as a hub id: owner/name, no data file's ending, no folder `owner`."""
    match = _ID.fullmatch(path)
    return (
        bool(match and not path.startswith(".") and data_suffix(match["id"]) is None)
        and not Path(path.partition("/")[0]).is_dir()
    )


def folder_of(path: str) -> tuple[Path, str | None] | None:
    """The folder and the split (None: not named) of a path that `datasets` reads from disk; None for any other."""
    before, mark, split = path.rpartition("#")
    if mark and split and not Path(path).exists() and Path(before).is_dir():
        return Path(before), split
    folder = Path(path)
    saved = (folder / _MANY).is_file() or ((folder / _ONE).is_file() and any(folder.glob("*.arrow")))
    return (folder, None) if saved else None


def split_problems(path: str) -> Sequence[Problem]:
    """What is wrong with a path of which `folder_of` told the folder: a split that is not named, or not there."""
    found = folder_of(path)
    assert found is not None, path
    folder, split = found
    known = _splits(folder)
    if known is None or split in known:
        return ()
    near = nearest(split, known) if split else None
    return (
        Problem(
            f"the folder has no split '{split}'" if split else "the folder holds several splits",
            path,
            f"one of {', '.join(known)}" if split else "one split, or its rows would be mixed with the others'",
            f"did you mean '{folder}#{near}'?" if near else f"name one: {folder}#{known[0]}",
        ),
    )


def _splits(folder: Path) -> list[str] | None:
    """The splits that save_to_disk wrote into one folder; None where it wrote none, or a single one."""
    try:
        names = json.loads((folder / _MANY).read_bytes())["splits"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names] or None


def hub_records(path: str) -> Sequence[Mapping[str, Any]]:
    """The rows of a hub data set, or of a folder and split; the hub's is `train` unless named. Classes and tags come by
    their names.

    Errors: MissingExtra without the package; DataError where the hub does not answer or does not know the data set, for
    a split that is not there, and for a damaged folder; MachineError for more rows than memory holds.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra.of("hub", f"the hub data set {path}") from error
    found = folder_of(path)
    loaded = _from_hub(datasets, path) if found is None else _from_folder(datasets, path, *found)
    refuse_beyond_memory(loaded.data.nbytes, path)
    return [_named(row, loaded.features) for row in loaded]


def _from_hub(datasets: Any, path: str) -> Any:
    match = _ID.fullmatch(path)
    assert match is not None, path
    try:
        return datasets.load_dataset(
            match["id"], match["configuration"], split=match["split"] or "train", revision=match["revision"]
        )
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ValueError) and _UNKNOWN.search(str(error)):
            raise DataError(
                f"the data set is there, but not this part of it: {first_line(error)}",
                where=path,
                expected="owner/name[:configuration][@revision][#split], as the hub names them",
                remedy="name one that is listed",
            ) from error
        raise DataError(
            f"there is no such file, and the hub gave no data set of that name: {first_line(error)}",
            where=path,
            expected="a file, a folder, embedded:NAME, or owner/name[:configuration][@revision][#split] of the hub",
            remedy="without a network: on a machine that has one, "
            f"datasets.load_dataset({match['id']!r}, split={match['split'] or 'train'!r}).to_parquet('rows.parquet'), "
            "copy the file here and give its path",
        ) from error


def _from_folder(datasets: Any, path: str, folder: Path, split: str | None) -> Any:
    problems = split_problems(path)
    if problems:
        raise DataError(problems)
    try:
        if (folder / _MANY).is_file():
            return datasets.load_from_disk(str(folder / str(split)))
        if (folder / _ONE).is_file() and split is None:
            return datasets.load_from_disk(str(folder))
        return datasets.load_dataset(str(folder), split=split)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise DataError(
            f"the folder gave no rows: {first_line(error)}",
            where=path,
            expected="what save_to_disk of the package datasets wrote, or files whose names begin with their split",
            remedy="name the files themselves, or a split that is there",
        ) from error


def _named(row: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """The row with names in place of the numbers of classes, alone or in lists, as the data set itself names them."""
    named = dict(row)
    for column, feature in features.items():
        kind = getattr(feature, "feature", feature)  # of a list, what its items are
        names = getattr(kind, "names", None)
        if names is not None:
            named[column] = _name(row[column], names)
    return named


def _name(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_name(item, names) for item in value]
    return names[value] if type(value) is int and 0 <= value < len(names) else value
