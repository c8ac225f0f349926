"""From a recipe's data to prepared splits: read, split, then each step on each split; everything written down.

The same data, seed and recipe give the same bytes. Where validation or test is a share of train, the split is fixed
before any step adds or drops a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.contracts import Step, StepContext
from ..core.errors import DataError, Problem
from ..core.example import Example
from ..core.files import write_atomic
from ..core.recipe import Data
from .ledger import Ledger
from .read import BadRow, FileFact, FormatFact, Read, read, refuse
from .split import SPLITS, split
from .store import read_examples, write_examples

__all__ = ["Prepared", "load", "load_splits", "prepare", "save"]


@dataclass
class Prepared:
    """Prepared data: examples by split (train first), the ledger, and what was read with which format.

    facts: what steps measured, in their order: {"step", "split", "facts"}.
    """

    splits: dict[str, list[Example]]
    ledger: Ledger
    files: list[FileFact] = field(default_factory=list)
    formats: list[FormatFact] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def bad(self) -> list[BadRow]:
        """The rows that could not be read and were set aside."""
        return [
            BadRow(entry.file, entry.row, entry.reason, entry.before or "")
            for entry in self.ledger.entries
            if entry.action == "unread"
        ]

    @property
    def summary(self) -> dict[str, Any]:
        """Plain numbers for the report: rows kept by split, rows read and unread, and what each step did and why."""
        unread = len(self.bad)
        return {
            "splits": {name: len(examples) for name, examples in self.splits.items()},
            "read": sum(fact.rows for fact in self.files) - unread,
            "unread": unread,
            "files": [asdict(fact) for fact in self.files],
            "formats": {fact.path: {"format": fact.format, "because": fact.because} for fact in self.formats},
            "steps": self.ledger.counts(),
            **({"facts": self.facts} if self.facts else {}),
        }


def prepare(data: Data, seed: int) -> Prepared:
    """Reads, splits and prepares the data.

    Errors: DataError as read and split; for a file that is in two splits; where steps leave a split without a row.
    """
    reads = _read(data)
    ledger = Ledger()
    for name, result in reads.items():
        for bad in result.bad:
            ledger.unread(name, bad.file, bad.row, bad.reason, bad.text)
    given = {name: result.examples for name, result in reads.items() if name != "train"}
    splits = split(reads["train"].examples, data, given, seed)
    facts: list[dict[str, Any]] = []
    for step in data.steps:
        assert isinstance(step, Step)
        splits = _apply(step, splits, ledger, seed, facts)
    return Prepared(
        splits,
        ledger,
        [fact for result in reads.values() for fact in result.files],
        [fact for result in reads.values() for fact in result.formats],
        facts,
    )


def _read(data: Data) -> dict[str, Read]:
    """Every split that has sources of its own; rows that cannot be read are refused together, not file by file."""
    reads = {
        name: read(
            data.sources(name),
            bad_rows="quarantine",
            split_by=data.split_by if name == "train" else None,
            groups=data.groups,
            optional=() if name == "train" or data.split_by is None else (data.split_by,),
        )
        for name in SPLITS
        if data.sources(name)
    }
    if data.bad_rows == "stop":
        refuse([bad for result in reads.values() for bad in result.bad])
    _refuse_shared_files(reads)
    return reads


def _refuse_shared_files(reads: Mapping[str, Read]) -> None:
    """A file whose rows are trained and measured on alike says nothing about what was learned."""
    seen: dict[str, tuple[str, str]] = {}
    problems: list[Problem] = []
    for name, result in reads.items():
        for fact in result.files:
            other, path = seen.setdefault(fact.sha256, (name, fact.path))
            if other != name:
                same = "the same file is" if path == fact.path else f"{path} has the same bytes and is"
                problems.append(
                    Problem(
                        f"{same} in {other} and in {name}",
                        fact.path,
                        "rows of its own for each split",
                        f"take a share instead: data.{name}: 0.1",
                    )
                )
    if problems:
        raise DataError(problems)


def _apply(
    step: Step, splits: Mapping[str, list[Example]], ledger: Ledger, seed: int, facts: list[dict[str, Any]]
) -> dict[str, list[Example]]:
    """The step on its splits; each sees the others as they were before it, so that their order does not matter."""
    name = step.component_name()
    result: dict[str, list[Example]] = {}
    for current, examples in splits.items():
        if step.splits == "train" and current != "train":
            result[current] = examples
            continue
        others: dict[str, Sequence[Example]] = {other: rows for other, rows in splits.items() if other != current}
        context = StepContext(current, seed, ledger.page(current, name), others)
        result[current] = list(step.run(examples, context))
        if context.facts:
            facts.append({"step": name, "split": current, "facts": context.facts})
        if examples and not result[current]:
            reasons = [
                f"{count['count']} {count['reason']}"
                for count in ledger.counts()
                if (count["split"], count["step"], count["action"]) == (current, name, "dropped")
            ]
            raise DataError(
                f"the step '{name}' left {current} without a row: it had {len(examples)}, dropped were "
                + (", ".join(reasons) or "all of them without a reason"),
                where="data.steps",
                remedy=f"leave '{name}' out, loosen it, or give {current} more rows",
            )
    return result


def save(prepared: Prepared, folder: Path) -> None:
    """Writes SPLIT.parquet for each split, ledger.parquet and summary.json, the summary last: where it is, all is."""
    for name, examples in prepared.splits.items():
        write_examples(folder / f"{name}.parquet", examples)
    prepared.ledger.write(folder / "ledger.parquet")
    write_atomic(folder / "summary.json", json.dumps(prepared.summary, indent=1, ensure_ascii=False) + "\n")


def load(folder: Path) -> Prepared:
    """What `save` wrote. Errors: DataError where a file of it is absent or damaged."""
    summary = _summary(folder)
    return Prepared(
        load_splits(folder),
        Ledger.read(folder / "ledger.parquet"),
        [FileFact(**fact) for fact in summary["files"]],
        [FormatFact(path, **fact) for path, fact in summary["formats"].items()],
        summary.get("facts", []),
    )


def load_splits(folder: Path) -> dict[str, list[Example]]:
    """The examples by split that `save` wrote, without the ledger. Errors: as `load`."""
    return {name: read_examples(folder / f"{name}.parquet") for name in _summary(folder)["splits"]}


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"there is no complete prepared data: {error}",
            where=str(folder),
            remedy="give the same command again; the data is then prepared anew",
        ) from error
    return summary
