"""Rows of CSV and TSV: cells under the header's names, damage told by line."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator

from ..core.errors import DataError
from . import row as rows
from .row import BadRow, Record, decoded, overlong, readable

__all__ = ["table"]

_LONG = "field larger than field limit"


def table(data: bytes, name: str, tabs: bool) -> Iterator[Record | BadRow]:
    """The rows of a table, each at the line where it starts.

    Errors: DataError for a header that cannot be read or that names a column twice.
    """
    text, bad = decoded(data)
    delimiter = "\t" if tabs else _delimiter(text)
    before = csv.field_size_limit(min(rows.LONGEST_ROW, sys.maxsize, 2**31 - 1))
    try:
        found = list(_cells(text, delimiter))
    finally:
        csv.field_size_limit(before)
    if not found:
        raise DataError("the file is empty", where=name, expected="a header and at least one row", remedy="fill it")
    header = _header(found[0], bad, name)
    for start, end, cells, error in found[1:]:
        if error.startswith(_LONG):
            yield overlong(name, start, cells[0])
            continue
        damage = next((bad[line] for line in range(start, end + 1) if line in bad), None) if bad else None
        raw = readable(delimiter.join(cells))
        if error or damage:
            yield BadRow(name, start, error or damage or "", raw)
        elif len(cells) != len(header):
            yield BadRow(name, start, f"wrong number of cells: {len(cells)} where the header has {len(header)}", raw)
        elif cells == header:
            yield BadRow(name, start, "the header again: it was written into the rows", raw)
        else:
            yield Record(start, dict(zip(header, cells, strict=True)))


def _header(first: tuple[int, int, list[str], str], bad: dict[int, str], name: str) -> list[str]:
    line, _, header, error = first
    if error or line in bad:
        raise DataError(
            error or bad[line],
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
            remedy="rename or remove one of them in the first line",
        )
    return header


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, int, list[str], str]]:
    """(first line, last line, cells, what is wrong) of each row that is not blank."""
    lines = io.StringIO(text, newline="")
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
            yield start, line, ["".join(kept)], reason
            continue
        line += len(kept)
        if cells:
            yield start, line, cells, ""


def _delimiter(text: str) -> str:
    """The separator that the header line has most often outside quotes."""
    header = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
    return max(",;\t|", key=header.count)
