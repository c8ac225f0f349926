"""Files cut into pieces that are read each by itself: lines of JSON at line ends, Parquet between its groups of rows.

A table is one piece, since a line end may stand inside quotes: its rows are read one after the other. What else there
is (arrays of JSON, text) is read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ..core.contracts import Format
from ..core.errors import DataError, first_line
from ..core.files import sha256_of
from ..core.recipe import Source
from .columnar import parquet
from .records import BOM, json_lines, kind_of
from .row import BadRow, Record
from .source_files import Place, opening
from .table import table
from .unpack import refuse_beyond_memory, refuse_foreign, unpack_file

__all__ = ["PIECE", "Cut", "Piece", "cut", "limited"]

PIECE = 2**24
"""Bytes of a piece of lines; the last line is read to its end."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file: bytes of lines (jsonl), groups of rows (parquet), from `start` to `stop`; a table (csv, tsv).

    path: where the file lies, unpacked. first: the number of its first row in the file. most: rows that are read.
    header, asked: of a table, as in table.table.
    """

    path: str
    kind: str
    start: int
    stop: int
    first: int = 1
    most: int | None = None
    header: bool | None = None
    asked: tuple[str, ...] = ()

    def records(self, shown: str) -> Iterator[Record | BadRow]:
        """Its records, as those of the whole file are. Errors: as records.records."""
        with opening(shown):
            yield from islice(self._records(shown), self.most)

    def _records(self, shown: str) -> Iterator[Record | BadRow]:
        path = Path(self.path)
        if self.kind == "parquet":
            return parquet(path, shown, range(self.start, self.stop), self.first)
        if self.kind != "jsonl":
            return table(path, shown, self.kind == "tsv", self.header, self.asked)
        refuse_beyond_memory(self.stop - self.start, shown)
        with path.open("rb") as file:
            file.seek(self.start)
            return json_lines(file.read(self.stop - self.start), shown, self.first)


@dataclass(frozen=True, slots=True)
class Cut:
    """A file's pieces in order; sha256 and size (bytes) are of the file as it lies."""

    pieces: tuple[Piece, ...]
    sha256: str
    size: int


def cut(place: Place, source: Source, folder: Path) -> Cut | None:
    """The pieces of a file of a source; None for one that is read whole, because of its kind or because it is small.

    folder: where what a packed file holds is written.
    Errors: DataError where the file cannot be read, or is no data file.
    """
    path, shown = place.path, place.shown
    if path is None:
        return None
    with opening(shown):
        digest, size = sha256_of(path), path.stat().st_size
        data = folder / f"unpacked-{digest[:16]}"
        if not data.is_file() and not unpack_file(path, data, shown):
            data = path
        with data.open("rb") as file:
            head = file.read(PIECE)
        refuse_foreign(head, shown)
        head = head.removeprefix(BOM)
        meant = source.format.file_kind if isinstance(source.format, Format) else None
        kind = kind_of(head, path.name, meant) if head.strip() else None
        if kind == "jsonl":
            pieces = list(_between_lines(data))
            return Cut(tuple(pieces), digest, size) if len(pieces) > 1 else None
        if kind == "parquet":
            pieces = list(_between_groups(data, shown))
            return Cut(tuple(pieces), digest, size) if pieces else None
        if kind in ("csv", "tsv") and len(head) >= PIECE - len(BOM):
            asked = tuple(source.columns.values())
            return Cut((Piece(str(data), kind, 0, size, header=source.header, asked=asked),), digest, size)
    return None


def _between_lines(path: Path) -> Iterator[Piece]:
    with path.open("rb") as file:
        start = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(start)
        first = 1
        while block := file.read(PIECE):
            lines = block.count(b"\n")
            if not block.endswith(b"\n"):
                while (rest := file.readline(2**20)) and not rest.endswith(b"\n"):
                    continue
                lines += 1
            yield Piece(str(path), "jsonl", start, file.tell(), first)
            start, first = file.tell(), first + lines


def _between_groups(path: Path, shown: str) -> Iterator[Piece]:
    """One group or more a piece; none for a file of one row, which may be a document that holds many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows < 2:
                return
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            sizes = [(group.total_byte_size, group.num_rows) for group in groups]
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"the Parquet file is damaged: {first_line(error)}",
            where=shown,
            expected="a whole Parquet file",
            remedy="fetch or write the file again",
        ) from error
    start, first, held, rows = 0, 1, 0, 0
    for number, (size, count) in enumerate(sizes, 1):
        held, rows = held + size, rows + count
        if held >= PIECE or number == len(sizes):
            yield Piece(str(path), "parquet", start, number, first)
            start, first, held, rows = number, first + rows, 0, 0


def limited(pieces: Iterable[Piece], most: int, shown: str) -> Iterator[Piece]:
    """The pieces that hold the first rows, so many in all."""
    for piece in pieces:
        if most <= 0:
            return
        rows = sum(1 for _ in islice(piece.records(shown), most))
        yield replace(piece, most=rows)
        most -= rows
