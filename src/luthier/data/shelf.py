"""Where rows lie between steps: in memory, or as shards on disk that several processes work on.

Steps that look at one row at a time run over each shard by itself, one step after the other; a step that must see all
rows gets the shards as one sequence. Both shelves give the same rows, entries and facts in the same order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..core.component import Component, describe, find, names
from ..core.contracts import Step, StepContext
from ..core.example import Example
from ..core.files import write_atomic
from .columnar import batched
from .ledger import Ledger
from .pool import run_jobs
from .store import Stored, write_examples

__all__ = ["Disk", "Done", "Memory", "Rows", "Shelf", "added", "in_its_room", "runs", "shard_job", "through"]

SHARD = 2**16
"""Rows of a shard; the last of a split has what is left."""
Rows = Sequence[Example]


@dataclass(frozen=True)
class Done:
    """What steps made of some rows: the rows, and of each step its ledger, its facts and how many rows it left."""

    rows: Rows
    ledgers: Sequence[Ledger]
    facts: Sequence[Mapping[str, Any]]
    left: Sequence[int]


class Shelf(Protocol):
    """Keeps rows and ledgers, and runs row steps over them. `name` tells what lies where; each is used once."""

    def keep(self, name: str, rows: Iterable[Example]) -> Rows:
        """The rows, kept."""
        ...

    def ledger(self, name: str) -> Ledger:
        """A ledger to write to."""
        ...

    def each(self, name: str, steps: Sequence[Step], rows: Rows, split: str, seed: int) -> list[Done]:
        """The row steps on rows that `keep` or `each` gave, shard by shard."""
        ...

    def joined(self, shards: Sequence[Rows]) -> Rows:
        """Shards that `each` gave as one sequence."""
        ...


def through(steps: Sequence[Step], rows: Iterable[Example], split: str, seed: int) -> Done:
    """Row steps on rows in memory, one step after the other; a step that is not for this split is passed over."""
    kept = rows if isinstance(rows, list) else list(rows)
    ledgers: list[Ledger] = []
    facts: list[dict[str, Any]] = []
    left: list[int] = []
    for step in steps:
        ledgers.append(Ledger())
        facts.append({})
        if step.splits == "all" or split == "train":
            page = ledgers[-1].page(split, step.component_name())
            kept = list(step.run(kept, StepContext(split, seed, page, facts=facts[-1])))
        left.append(len(kept))
    return Done(kept, ledgers, facts, left)


class Memory:
    """Keeps everything in lists."""

    def keep(self, name: str, rows: Iterable[Example]) -> Rows:
        """The rows, kept."""
        return rows if isinstance(rows, list) else list(rows)

    def ledger(self, name: str) -> Ledger:
        """A ledger to write to."""
        return Ledger()

    def each(self, name: str, steps: Sequence[Step], rows: Rows, split: str, seed: int) -> list[Done]:
        """The row steps on rows that `keep` or `each` gave, shard by shard."""
        return [through(steps, rows, split, seed)]

    def joined(self, shards: Sequence[Rows]) -> Rows:
        """Shards that `each` gave as one sequence."""
        return shards[0] if len(shards) == 1 else [row for shard in shards for row in shard]


class Disk:
    """Keeps shards in a folder; a shard that lies there whole is not made again.

    folder: belongs to one preparation (these files, steps, parameters and seed). processes: how many work at once.
    """

    def __init__(self, folder: Path, processes: int | None = None, shard: int = SHARD) -> None:
        self.folder, self.shard = folder, shard
        self.processes = processes or len(os.sched_getaffinity(0))

    def keep(self, name: str, rows: Iterable[Example]) -> Rows:
        """The rows, kept."""
        files = []
        for number, some in enumerate(batched(rows, self.shard)):
            files.append(self.folder / f"{name}-{number:05}.parquet")
            write_examples(files[-1], some)
        return Stored(files)

    def ledger(self, name: str) -> Ledger:
        """A ledger to write to."""
        return Ledger.spilling(self.folder, f"{name}.ledger")

    def each(self, name: str, steps: Sequence[Step], rows: Rows, split: str, seed: int) -> list[Done]:
        """The row steps on rows that `keep` or `each` gave, shard by shard."""
        assert isinstance(rows, Stored)
        jobs = [
            {
                "source": str(source),
                "into": str(self.folder / f"{name}-{number:05}"),
                "steps": [describe(step) for step in steps],
                "split": split,
                "seed": seed,
            }
            for number, source in enumerate(rows.files)
        ]
        todo = [job for job in jobs if not _facts_file(str(job["into"])).is_file()]
        if all(in_its_room(step, "steps") for step in steps):
            run_jobs("luthier.data.shard", todo, self.processes)
        else:
            # Another process could not import a step that is no file of the room.
            for job in todo:
                shard_job(job, steps)
        return [_done(str(job["into"]), len(steps)) for job in jobs]

    def joined(self, shards: Sequence[Rows]) -> Rows:
        """Shards that `each` gave as one sequence."""
        return Stored([file for shard in shards if isinstance(shard, Stored) for file in shard.files])


def shard_job(job: Mapping[str, Any], steps: Sequence[Step]) -> None:
    """Does one of the jobs that `Disk.each` made; the file that tells it is done comes last."""
    into = str(job["into"])
    done = through(steps, Stored([Path(job["source"])]), job["split"], job["seed"])
    for number, ledger in enumerate(done.ledgers):
        ledger.write(_ledger_file(into, number))
    write_examples(_rows_file(into), done.rows)
    write_atomic(_facts_file(into), json.dumps({"facts": done.facts, "left": done.left}))


def in_its_room(component: Component, room: str) -> bool:
    """Whether another process finds the component by its name."""
    name = component.component_name()
    return name in names(room) and find(room, name) is type(component)


def _done(into: str, steps: int) -> Done:
    found = json.loads(_facts_file(into).read_text(encoding="utf-8"))
    ledgers = [Ledger.stored([_ledger_file(into, number)]) for number in range(steps)]
    return Done(Stored([_rows_file(into)]), ledgers, found["facts"], found["left"])


def _rows_file(into: str) -> Path:
    return Path(f"{into}.parquet")


def _ledger_file(into: str, step: int) -> Path:
    return Path(f"{into}.ledger-{step}.parquet")


def _facts_file(into: str) -> Path:
    return Path(f"{into}.json")


def added(facts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What a row step measured on shards as one: numbers add up, lists follow one another, the last text stands."""
    total: dict[str, Any] = {}
    for some in facts:
        for key, value in some.items():
            before = total.get(key)
            if isinstance(value, Mapping):
                total[key] = added([before or {}, value])
            elif before is None or isinstance(value, (str, bool)):
                total[key] = value
            else:
                total[key] = before + value
    return total


def runs(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Row steps that follow one another together, and each step that must see all rows alone."""
    together: list[Step] = []
    for step in steps:
        if step.scope == "row":
            together.append(step)
            continue
        if together:
            yield together
        together = []
        yield [step]
    if together:
        yield together
