"""The ledger: every row that was not read, dropped, changed, added or noted, with its reason; kept beside the data.

A reason is a kind, or a kind and its details after a colon ("not valid JSON: ..."): counts go by kind.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from ..core.example import Example
from .columnar import GROUP, write_columns
from .personal.rows import json_changed
from .store import StoredItems

__all__ = ["Action", "Entry", "Ledger", "Page"]

Action = Literal["dropped", "changed", "noted", "added", "unread"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger.

    of: the id of the row that stays in its place, or that it resembles. before, after: the row's text and target.
    example: the whole row as JSON, where it was dropped.
    """

    split: str
    step: str
    action: Action
    id: str
    file: str
    row: int
    reason: str
    of: str | None = None
    before: str | None = None
    after: str | None = None
    example: str | None = None

    @property
    def kind(self) -> str:
        """The reason without its details: what counts go by."""
        return self.reason.partition(": ")[0]

    def dropped(self) -> Example:
        """The row that was dropped, as it stood then. Errors: ValueError for an entry that is no drop."""
        if self.example is None:
            raise ValueError(f"{self.id} was {self.action}, not dropped")
        return Example.from_json(json.loads(self.example))


@dataclass
class Ledger:
    """All entries of a preparation, in the order in which they came about: a list, or what lies in files."""

    entries: Sequence[Entry] = field(default_factory=list)

    @classmethod
    def of(cls, ledgers: Sequence[Ledger]) -> Ledger:
        """Several ledgers, one after the other; a list where all of them are."""
        parts = [ledger.entries for ledger in ledgers]
        held = all(isinstance(part, list) for part in parts)
        return cls(list(chain.from_iterable(parts)) if held else _Chained(parts))

    def page(self, split: str, step: str) -> Page:
        """What a step writes to while it works on a split."""
        return Page(self, split, step)

    def append(self, entry: Entry) -> None:
        """Adds an entry. Errors: TypeError for a ledger that was read from files."""
        if not isinstance(self.entries, (list, _Spilling)):
            raise TypeError("a ledger that was read is not written to")
        self.entries.append(entry)

    def unread(self, split: str, file: str, row: int, reason: str, text: str) -> None:
        """A row that could not be read, with its raw text."""
        self.append(Entry(split, "read", "unread", f"{file}:{row}", file, row, reason, before=text))

    def counts(self) -> list[dict[str, Any]]:
        """How many entries there are of each split, step, action and kind of reason, in order of appearance."""
        counted = Counter((entry.split, entry.step, entry.kind, entry.action) for entry in self.entries)
        return [
            {"split": split, "step": step, "reason": kind, "action": action, "count": count}
            for (split, step, kind, action), count in counted.items()
        ]

    def hidden(self, hide: Callable[[str], str]) -> Ledger:
        """The ledger with every text of a row in it changed: what stood there, and rows that were dropped."""
        if isinstance(self.entries, list):
            return Ledger([_hidden(entry, hide) for entry in self.entries])
        return Ledger(_Hidden(self.entries, hide))

    def write(self, path: Path) -> None:
        """Writes the ledger as Parquet, byte for byte the same for the same entries. Errors: as write_columns."""
        _write(path, self.entries)

    @classmethod
    def stored(cls, files: Sequence[Path]) -> Ledger:
        """The ledgers that `write` wrote, one after the other, read as they are asked for. Errors: as StoredItems."""
        return cls(StoredItems(files, _entry))

    @classmethod
    def spilling(cls, folder: Path, name: str) -> Ledger:
        """A ledger whose entries go to files `name`-N.parquet of a folder as they grow many."""
        return cls(_Spilling(folder, name))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """The ledger that `write` wrote, in memory."""
        return cls(list(cls.stored([path]).entries))


@dataclass(frozen=True)
class _Hidden(Sequence[Entry]):
    """Entries that lie in files, changed as they are asked for."""

    entries: Sequence[Entry]
    hide: Callable[[str], str]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return (_hidden(entry, self.hide) for entry in self.entries)

    def __getitem__(self, at: Any) -> Any:
        found = self.entries[at]
        return _hidden(found, self.hide) if isinstance(found, Entry) else [_hidden(one, self.hide) for one in found]


_MASK = re.compile(r"\[[A-Z_]+\]")
_NAMES = frozenset({"id", "origin"})
"""Fields of a row that is kept as JSON which say where it is from."""


def _hidden(entry: Entry, hide: Callable[[str], str]) -> Entry:
    def text(value: str | None) -> str | None:
        return None if value is None else hide(value)

    kind, colon, details = entry.reason.partition(": ")
    example = entry.example
    if example is not None:
        row = json.loads(example)
        example = json.dumps(
            {name: item if name in _NAMES else json_changed(item, hide) for name, item in row.items()},
            ensure_ascii=False,
        )
    before, after = text(entry.before), text(entry.after)
    if (
        after is not None
        and after != entry.after
        and before is not None
        and _MASK.findall(before) != _MASK.findall(after)
    ):
        # What the step repaired may have kept the search from what it found afterwards: an address with a hidden sign.
        before = "[not kept: what is hidden after the change stands here in another form]"
    return replace(
        entry,
        reason=f"{kind}{colon}{hide(details)}",
        before=before,
        after=after,
        example=example,
    )


class _Spilling(Sequence[Entry]):
    """Entries in the order in which they are added; of many, all but the last lie in files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.files: list[Path] = []
        self._last: list[Entry] = []

    def append(self, entry: Entry) -> None:
        """Adds an entry. Errors: MachineError where the files cannot be written."""
        self._last.append(entry)
        if len(self._last) == GROUP:
            path = self.folder / f"{self.name}-{len(self.files)}.parquet"
            _write(path, self._last)
            self.files.append(path)
            self._last = []

    def __len__(self) -> int:
        return GROUP * len(self.files) + len(self._last)

    def __iter__(self) -> Iterator[Entry]:
        yield from StoredItems(self.files, _entry)
        yield from self._last

    def __getitem__(self, at: Any) -> Any:
        return list(self)[at]


class _Chained(Sequence[Entry]):
    """The entries of several ledgers, one after the other."""

    def __init__(self, parts: Sequence[Sequence[Entry]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(self.parts)

    def __getitem__(self, at: Any) -> Any:
        return list(self)[at]


def _write(path: Path, entries: Iterable[Entry]) -> None:
    import pyarrow as pa

    types = {"row": pa.int64()}
    schema = pa.schema([(item.name, types.get(item.name, pa.string())) for item in fields(Entry)])
    write_columns(path, entries, schema, {item.name: attrgetter(item.name) for item in fields(Entry)})


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**row)


@dataclass(frozen=True)
class Page:
    """The ledger as one step sees it on one split (contracts.Ledger)."""

    ledger: Ledger
    split: str
    step: str

    def drop(self, example: Example, reason: str, *, of: str | None = None) -> None:
        self._write("dropped", example, reason, of, None, str(example))

    def change(self, before: Example, after: Example, reason: str) -> None:
        self._write("changed", before, reason, None, _shown(after), None)

    def note(self, example: Example, reason: str, *, of: str | None = None) -> None:
        self._write("noted", example, reason, of, None, None)

    def add(self, example: Example, reason: str) -> None:
        of = example.origin.parents[0] if example.origin.parents else None
        self._write("added", example, reason, of, None, None)

    def _write(
        self, action: Action, example: Example, reason: str, of: str | None, after: str | None, whole: str | None
    ) -> None:
        origin = example.origin
        self.ledger.append(
            Entry(
                self.split,
                self.step,
                action,
                example.id,
                origin.file,
                origin.row,
                reason,
                of,
                None if action == "added" else _shown(example),
                _shown(example) if action == "added" else after,
                whole,
            )
        )


def _shown(example: Example) -> str:
    """The example for a reader: its text and, after an arrow, its target."""
    if example.target is None:
        return example.text()
    target = " | ".join(example.target) if isinstance(example.target, tuple) else str(example.target)
    return f"{example.text()}\n→ {target}"
