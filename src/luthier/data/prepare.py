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
from ..core.files import write_atomic
from ..core.recipe import Data
from .large import SourceRows, stream
from .ledger import Ledger
from .read import BadRow, FileFact, FormatFact, Read, read, refuse
from .read_task import unread_ledger
from .shelf import Disk, Memory, Rows, Shelf, added, runs
from .split import SPLITS, in_order, split
from .store import read_examples, write_examples

__all__ = ["Prepared", "load", "load_splits", "prepare", "save"]


@dataclass
class Prepared:
    """Prepared data: examples by split (train first), the ledger, and what was read with which format.

    facts: what steps measured, in their order: {"step", "split", "facts"}.
    """

    splits: dict[str, Rows]
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


def prepare(data: Data, seed: int, shelf: Shelf | None = None) -> Prepared:
    """Reads, splits and prepares the data; shelf: where rows lie between steps (None: in memory).

    Errors: DataError as read and split; for a file that is in two splits; where steps leave a split without a row.
    """
    shelf = Memory() if shelf is None else shelf
    reads = _streamed(data, seed, shelf) if isinstance(shelf, Disk) else _held(data, seed)
    splits = {name: rows for result in reads.values() for name, rows in result.splits.items()}
    work = _Work(in_order(splits), [result.unread for result in reads.values()])
    for number, steps in enumerate(runs([step for step in data.steps if isinstance(step, Step)])):
        if steps[0].scope == "row":
            _each(shelf, f"{number:02}", steps, work, seed)
        else:
            _whole(shelf, f"{number:02}", steps[0], work, seed)
    return Prepared(
        work.splits,
        Ledger.of(work.ledgers),
        [fact for result in reads.values() for fact in result.files],
        [fact for result in reads.values() for fact in result.formats],
        work.facts,
    )


@dataclass
class _Work:
    """What a preparation has come to: splits, ledgers one after the other, and what steps measured."""

    splits: dict[str, Rows]
    ledgers: list[Ledger]
    facts: list[dict[str, Any]] = field(default_factory=list)

    def hide(self, step: Step) -> None:
        """What was written so far as it may stand once the step has run."""
        if type(step).hide is not Step.hide:
            self.ledgers = [ledger.hidden(step.hide) for ledger in self.ledgers]

    def tell(self, step: Step, split: str, ledger: Ledger, facts: Mapping[str, Any]) -> None:
        self.ledgers.append(ledger)
        if facts:
            self.facts.append({"step": step.component_name(), "split": split, "facts": dict(facts)})


def _streamed(data: Data, seed: int, shelf: Disk) -> dict[str, SourceRows]:
    """Every split that has sources of its own; rows that cannot be read are refused together, not file by file."""
    reads = {name: stream(data, name, seed, shelf) for name in SPLITS if data.sources(name)}
    if data.bad_rows == "stop":
        bad = [row for result in reads.values() for row in result.bad]
        refuse(bad, sum(len(result.unread.entries) for result in reads.values()))
    _refuse_shared_files({name: result.files for name, result in reads.items()})
    return reads


def _held(data: Data, seed: int) -> dict[str, SourceRows]:
    """The same in memory."""
    reads = _read(data)
    splits: dict[str, dict[str, Rows]] = {name: {name: result.examples} for name, result in reads.items()}
    splits["train"] = {**split(reads["train"].examples, data, seed)}
    return {
        name: SourceRows(splits[name], unread_ledger(name, result.bad), result.bad, result.files, result.formats)
        for name, result in reads.items()
    }


def _read(data: Data) -> dict[str, Read]:
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
    _refuse_shared_files({name: result.files for name, result in reads.items()})
    return reads


def _refuse_shared_files(read: Mapping[str, Sequence[FileFact]]) -> None:
    """A file whose rows are trained and measured on alike says nothing about what was learned."""
    seen: dict[str, tuple[str, str]] = {}
    problems: list[Problem] = []
    for name, facts in read.items():
        for fact in facts:
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


def _each(shelf: Shelf, name: str, steps: Sequence[Step], work: _Work, seed: int) -> None:
    """Row steps on every split, shard by shard."""
    done = {part: shelf.each(f"{name}-{part}", steps, rows, part, seed) for part, rows in work.splits.items()}
    for number, step in enumerate(steps):
        work.hide(step)
        for part, shards in done.items():
            ledger = Ledger.of([shard.ledgers[number] for shard in shards])
            work.tell(step, part, ledger, added(shard.facts[number] for shard in shards))
            before = sum(shard.left[number - 1] for shard in shards) if number else len(work.splits[part])
            if before and not sum(shard.left[number] for shard in shards):
                raise _nothing_left(step, part, before, ledger)
    work.splits = {part: shelf.joined([shard.rows for shard in shards]) for part, shards in done.items()}


def _whole(shelf: Shelf, name: str, step: Step, work: _Work, seed: int) -> None:
    """A step on its splits; each sees the others as they were before it, so that their order does not matter."""
    result: dict[str, Rows] = {}
    work.hide(step)
    for part, rows in work.splits.items():
        if step.splits == "train" and part != "train":
            result[part] = rows
            continue
        others = {other: some for other, some in work.splits.items() if other != part}
        ledger = shelf.ledger(f"{name}-{part}")
        context = StepContext(part, seed, ledger.page(part, step.component_name()), others)
        result[part] = shelf.keep(f"{name}-{part}", step.run(rows, context))
        work.tell(step, part, ledger, context.facts)
        if rows and not result[part]:
            raise _nothing_left(step, part, len(rows), ledger)
    work.splits = result


def _nothing_left(step: Step, split: str, had: int, ledger: Ledger) -> DataError:
    name = step.component_name()
    reasons = [f"{count['count']} {count['reason']}" for count in ledger.counts() if count["action"] == "dropped"]
    return DataError(
        f"the step '{name}' left {split} without a row: it had {had}, dropped were "
        + (", ".join(reasons) or "all of them without a reason"),
        where="data.steps",
        remedy=f"leave '{name}' out, loosen it, or give {split} more rows",
    )


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


def load_splits(folder: Path) -> dict[str, Rows]:
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
