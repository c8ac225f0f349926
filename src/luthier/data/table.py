"""Rows of CSV and TSV: cells under the header's names, or numbered columns; damage told by line."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from ..core.errors import DataError
from . import row as rows
from .header import column_names, refuse_row_as_header
from .row import BadRow, Record, overlong, readable

__all__ = ["table"]

_LOOKED_AT = 1000
"""Rows that the first line is held against."""
_LONG = "field larger than field limit"
_DAMAGED = re.compile("[\x00\udc80-\udcff]")


def table(
    data: bytes | Path, name: str, tabs: bool, header: bool | None = None, asked: Collection[str] = ()
) -> Iterator[Record | BadRow]:
    """The rows of a table, each at the line where it starts, as they are asked for.

    data: the bytes without a mark at their beginning, or the file. header: whether the first line names the columns;
    None: it should, and must not look like a row, held against the first thousand. asked: columns that are known to be
    named. Errors: DataError for a header that cannot be read, that names a column twice, or that looks like a row.
    """
    before = csv.field_size_limit(min(rows.LONGEST_ROW, sys.maxsize, 2**31 - 1))
    try:
        with _opened(data) as lines:
            # Up to the first line that is not blank, which tells the delimiter.
            top = list(_up_to(lambda line: not line.isspace(), lines))
            delimiter = "\t" if tabs or not top else _delimiter(top[-1])
            found = _cells(chain(top, lines), delimiter)
            first = next(found, None)
            if first is None:
                empty = "the file is empty"
                raise DataError(empty, where=name, expected="a header and at least one row", remedy="fill it")
            some = list(islice(found, _LOOKED_AT))
            if header is None and not first[2]:
                below = [cells for _, cells, error in some if not error]
                refuse_row_as_header(first[1], below, name, first[0], asked)
            columns = _header(first, name) if header is not False else column_names(len(first[1]))
            every = chain([first] if header is False else [], some, found)
            yield from _rows(every, columns, name, delimiter, "header" if header is not False else "first line")
    finally:
        csv.field_size_limit(before)


def _opened(data: bytes | Path) -> io.TextIOWrapper:
    """The lines of a text; a mark at the beginning of a file is no part of it."""
    if isinstance(data, bytes):
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape", newline="")
    return data.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _up_to(last: Callable[[str], bool], lines: Iterable[str]) -> Iterator[str]:
    """The lines up to the first one for which `last` holds, with it."""
    for line in lines:
        yield line
        if last(line):
            return


def _rows(
    found: Iterable[tuple[int, list[str], str]], columns: Sequence[str], name: str, delimiter: str, told_by: str
) -> Iterator[Record | BadRow]:
    for start, cells, error in found:
        if error.startswith(_LONG):
            yield overlong(name, start, cells[0])
            continue
        raw = readable(delimiter.join(cells))
        if error:
            yield BadRow(name, start, error, raw)
        elif len(cells) != len(columns):
            yield BadRow(
                name, start, f"wrong number of cells: {len(cells)} where the {told_by} has {len(columns)}", raw
            )
        elif cells == columns:
            yield BadRow(name, start, "the header again: it was written into the rows", raw)
        else:
            yield Record(start, dict(zip(columns, cells, strict=True)))


def _header(first: tuple[int, list[str], str], name: str) -> list[str]:
    line, header, error = first
    if error:
        raise DataError(
            error,
            where=f"{name}:{line}",
            expected="a first line of column names",
            remedy="mend the first line, or save the file again as CSV in UTF-8",
        )
    doubled = sorted(column for column, count in Counter(header).items() if count > 1)
    if doubled:
        unnamed = ["the one without a name"] if "" in doubled else []
        shown = ", ".join([*filter(None, doubled[:10]), *unnamed])
        raise DataError(
            f"columns come twice: {shown}",
            where=f"{name}:{line}",
            expected="a name of its own for each",
            remedy="rename or remove one of them in the first line; where that line is a row: header: false",
        )
    return header


def _damage(lines: Sequence[str], first: int) -> str:
    """What the first damaged byte in these lines is; decoding left what is no UTF-8 as halves of surrogate pairs.

    The lines are those of the reader: a carriage return alone ends one too.
    """
    for number, line in enumerate(lines, first):
        found = _DAMAGED.search(line)
        if found:
            place = f"at place {len(line[: found.start()].encode('utf-8', 'surrogateescape')) + 1} of line {number}"
            code = ord(found[0])
            return f"not valid UTF-8: byte 0x{code - 0xDC00:02X} {place}" if code else f"not text: a NUL byte {place}"
    return ""


def _cells(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """(first line, cells, what is wrong) of each row that is not blank."""
    kept: list[str] = []

    def keep() -> Iterator[str]:
        for line in lines:
            kept.append(line)
            yield line

    reader = csv.reader(keep(), delimiter=delimiter, strict=True)
    line = 0
    while True:
        kept.clear()
        start = line + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line += len(kept)
            lines_lost = f"; lines {start} to {line} cannot be read" if line > start else ""
            said = str(error)
            reason = said if said.startswith(_LONG) else f"damaged quoting: {said}{lines_lost}"
            yield start, ["".join(kept)], reason
            continue
        line += len(kept)
        if cells:
            yield start, cells, _damage(kept, start)


def _delimiter(line: str) -> str:
    """The separator that the header line has most often outside quotes."""
    header = re.sub(r'"[^"]*"', "", line.strip())
    return max(",;\t|", key=header.count)
