"""Reading of more rows than should be held: pieces of files go to several processes and come back as shards on disk.

What comes out is what `read` and `split` give of the same files: rows, refusals and facts, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ..core.contracts import Format
from ..core.errors import DataError
from ..core.example import Example
from ..core.files import remove_tree
from ..core.recipe import Data, Source
from .cut import Cut, cut, limited
from .detect import LOOKED_AT, FormatFact
from .ledger import Ledger
from .places import data_files
from .pool import run_jobs
from .read import SHOWN, FileFact, double, nothing_left, own_stem
from .read_task import Part, ReadTask, id_digest, unread_ledger
from .reading import Reading
from .row import BadRow, Record
from .shelf import Disk, Memory, Rows, Shelf, in_its_room
from .source_files import Place, file_places
from .split import refuse_empty, shares_of
from .store import Stored

__all__ = ["LARGE", "SourceRows", "shelf_for", "size_of", "stream"]

LARGE = 2**25
"""Bytes of data files above which rows lie on disk while they are prepared; in memory they take some ten times that."""
_PACKED = 5  # how many times larger text is that was packed


@dataclass
class SourceRows:
    """What reading one split's sources gave: its rows, and by split those that shares of it sent elsewhere.

    unread: the rows that could not be read, of which `bad` holds the first.
    """

    splits: dict[str, Rows] = field(default_factory=dict)
    unread: Ledger = field(default_factory=Ledger)
    bad: list[BadRow] = field(default_factory=list)
    files: list[FileFact] = field(default_factory=list)
    formats: list[FormatFact] = field(default_factory=list)


def size_of(data: Data) -> int:
    """About how many bytes the files of the data hold, unpacked; a source with a limit counts nothing."""
    sources = [source for split in ("train", "validation", "test") for source in data.sources(split)]
    return sum(_size(Path(source.path)) for source in sources if source.query is None and source.limit is None)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(_size(path / file) for file in data_files(path))
    if not path.is_file():
        return 0
    return path.stat().st_size * (_PACKED if path.suffix.lower() in (".gz", ".xz", ".zst", ".parquet") else 1)


@contextmanager
def shelf_for(data: Data, folder: Path) -> Iterator[Shelf]:
    """Memory, or for large data a shelf in `folder`, which belongs to this preparation alone.

    Others beside it are taken away, as left by earlier recipes; the folder itself goes at the end. It stays where the
    work is broken off, so that it can go on, and goes where the data are refused.
    """
    if size_of(data) <= LARGE:
        yield Memory()
        return
    for other in folder.parent.iterdir() if folder.parent.is_dir() else ():
        if other != folder:
            remove_tree(other)
    try:
        yield Disk(folder)
    except DataError:
        remove_tree(folder.parent)
        raise
    remove_tree(folder.parent)


def stream(data: Data, split: str, seed: int, shelf: Disk) -> SourceRows:
    """The rows of the sources of one split, on the shelf. Errors: as read with bad_rows "quarantine", and as split."""
    return _Stream(data, split, seed, shelf).streamed()


@dataclass
class _File:
    """A file on its way: what is asked of it, what it is, and where its tasks put what they read."""

    file: Reading
    sha256: str
    size: int
    chosen: tuple[Format, str] | None
    intos: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


class _Stream:
    """The sources of one split on their way to the shelf."""

    def __init__(self, data: Data, split: str, seed: int, shelf: Disk) -> None:
        self.data, self.split, self.seed, self.shelf = data, split, seed, shelf
        train, by = split == "train", data.split_by
        self.shares = shares_of(data) if train else {}
        self.groups = tuple(dict.fromkeys([*data.groups, *([by] if by and train else [])]))
        self.optional = () if train or by is None else (by,)
        self.jobs: list[dict[str, Any]] = []

    def streamed(self) -> SourceRows:
        """Reads everything that was not read before."""
        sources = self.data.sources(self.split)
        files = list(self._files(sources))
        run_jobs("luthier.data.shard", self.jobs, self.shelf.processes)
        for file in files:
            file.parts = [Part(into) for into in file.intos]
            if file.chosen is not None:
                file.file.refuse_missing(list(dict.fromkeys(key for part in file.parts for key in part.keys)))
        parts = [part for file in files for part in file.parts]
        doubles = _doubles(parts)
        found = SourceRows(unread=self._unread(parts, doubles))
        first = [[*part.bad, *doubles.get(part.into, [])[:SHOWN]] for part in parts]
        found.bad = list(islice(chain.from_iterable(sorted(bad, key=lambda row: row.row) for bad in first), SHOWN))
        for file in files:
            rows = sum(part.count for part in file.parts)
            found.files.append(FileFact(file.file.shown, file.sha256, file.size, rows))
            if file.chosen is not None:
                found.formats.append(FormatFact(file.file.shown, file.chosen[0].component_name(), file.chosen[1]))
        for part in parts:
            if part.into in doubles:
                part.without({row.row for row in doubles[part.into]}, self.shelf.shard)
        if not any(part.shards for part in parts):
            raise nothing_left(found.bad, ", ".join(source.path for source in sources), len(found.unread.entries))
        for name in ("train", *self.shares) if self.split == "train" else (self.split,):
            found.splits[name] = Stored([file for part in parts for file in part.shards.get(name, [])])
        if self.split == "train":
            refuse_empty(found.splits, self.data)
        return found

    def _files(self, sources: Sequence[Source]) -> Iterator[_File]:
        """Every file, read where it must be read whole, else with its jobs among `jobs`."""
        stems: set[str] = set()
        number = 0
        for source in sources:
            left = source.limit
            for place in file_places(source):
                into = str(self.shelf.folder / f"read-{self.split}-{number:05}")
                asked = Reading(source, place.shown, own_stem(place, stems), self.groups, self.optional)
                pieces = cut(place, source, self.shelf.folder)
                if pieces is None:
                    file, count = self._whole(asked, place, into, left)
                else:
                    file, count = self._pieces(asked, pieces, into, left)
                yield file
                number += 1
                left = None if left is None else left - count
                if left == 0:
                    break

    def _whole(self, asked: Reading, place: Place, into: str, left: int | None) -> tuple[_File, int]:
        loaded = place.load()
        rows = loaded.rows[:left]
        chosen = _chosen(asked, [row for row in rows if isinstance(row, Record)], loaded.told)
        task = self._task(asked, chosen, into)
        if not task.done:
            task.read(rows)
        return _File(asked, loaded.sha256, loaded.size, chosen, [into]), len(rows)

    def _pieces(self, asked: Reading, found: Cut, into: str, left: int | None) -> tuple[_File, int]:
        pieces = list(found.pieces if left is None else limited(found.pieces, left, asked.shown))
        records = chain.from_iterable(piece.records(asked.shown) for piece in pieces)
        first = list(islice((record for record in records if isinstance(record, Record)), LOOKED_AT))
        chosen = _chosen(asked, first)
        file = _File(asked, found.sha256, found.size, chosen)
        for number, piece in enumerate(pieces):
            task = self._task(asked, chosen, f"{into}-{number:05}")
            file.intos.append(task.into)
            if task.done:
                continue
            if chosen is not None and in_its_room(chosen[0], "formats"):
                self.jobs.append(task.job(piece))
            else:
                # Another process could not import a format that is no file of the room.
                task.read(piece.records(asked.shown))
        return file, sum(piece.most or 0 for piece in pieces)

    def _task(self, asked: Reading, chosen: tuple[Format, str] | None, into: str) -> ReadTask:
        form = None if chosen is None else chosen[0]
        by = self.data.split_by
        return ReadTask(asked, form, into, self.split, self.shares, by, self.seed, self.shelf.shard)

    def _unread(self, parts: Sequence[Part], doubles: dict[str, list[BadRow]]) -> Ledger:
        """The rows that could not be read in the order in which they stand, doubles among them."""
        ledgers = []
        for part in parts:
            more = doubles.get(part.into)
            if more:
                entries = [*part.ledger().entries, *unread_ledger(self.split, more).entries]
                ledgers.append(Ledger(sorted(entries, key=lambda entry: entry.row)))
            elif part.unread:
                ledgers.append(part.ledger())
        return Ledger.of(ledgers)


def _chosen(
    asked: Reading, records: Sequence[Record], told: tuple[Format, str] | None = None
) -> tuple[Format, str] | None:
    """The format and why; None where no record can be read."""
    if not records:
        return None
    try:
        return asked.format_of(records, told)
    except DataError:
        # A column by another name than the one asked for explains it better.
        asked.refuse_missing(list(dict.fromkeys(key for record in records for key in record.value)))
        raise


def _doubles(parts: Sequence[Part]) -> dict[str, list[BadRow]]:
    """Of rows with one id all but the first, by part."""
    digests, counts = np.unique(
        np.concatenate([np.empty(0, dtype=np.uint64), *(part.ids() for part in parts)]), return_counts=True
    )
    twice = set(digests[counts > 1].tolist())
    first: dict[str, Example] = {}
    found: dict[str, list[BadRow]] = {}
    for part in parts if twice else ():
        for example in part.rows():
            if id_digest(example.id) in twice and first.setdefault(example.id, example) is not example:
                found.setdefault(part.into, []).append(double(first[example.id], example))
    return found
