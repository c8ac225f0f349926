"""Whether a table's first line names its columns or is a row already, told by its cells."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache

from ..core.component import find, names
from ..core.contracts import Format
from ..core.errors import DataError

__all__ = ["column_names", "refuse_row_as_header"]

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?%?")
_SENTENCE = re.compile(r"\s*(\S+\s+){4,}\S*[.!?:…]['\"”»)]*\s*|\s*(\S+\s+){9,}\S[\s\S]*")
"""Five words or more that end like a sentence, or ten."""
_AGAIN = 2  # rows below that repeat a cell of the first line, before it is taken for a value


def column_names(count: int) -> list[str]:
    """What the columns of a table without names are called."""
    return [f"column_{number}" for number in range(1, count + 1)]


def refuse_row_as_header(
    first: Sequence[str], rows: Sequence[Sequence[str]], name: str, line: int, asked: Collection[str]
) -> None:
    """Errors: DataError where the first line looks like a row: it would be lost as column names, in silence.

    rows: the cells of the lines below. asked: columns that the recipe names; a first line that holds one of them, or a
    key of some format, names columns.
    """
    if any(cell in asked or cell.strip().casefold() in _keys() for cell in first):
        return
    reason = _why_row(first, rows)
    if reason is not None:
        called = ", ".join(column_names(len(first))[:3]) + (", ..." if len(first) > 3 else "")
        raise DataError(
            f"the first line looks like a row, not like the names of columns: {reason}",
            where=f"{name}:{line}",
            expected="a first line of column names, or to be told that there is none",
            remedy="where it is a row, header: false beside the path (--no-header): the columns are then called "
            f"{called}, and columns: {{text: column_1, ...}} says which is what; where it does name them, header: true",
        )


def _why_row(first: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    if first == [str(number) for number in range(len(first))]:
        return None  # a table that was written by pandas without names of its own
    number = next((cell for cell in first if _NUMBER.fullmatch(cell.strip())), None)
    if number is not None:
        return f"'{number}' is a number"
    others = [row for row in rows if len(row) == len(first) and row != first]
    for place, cell in enumerate(first):
        again = sum(row[place] == cell for row in others) if cell.strip() else 0
        if again >= _AGAIN:
            return f"'{cell[:40]}' stands in {again} rows below, in the same column"
    sentence = next((cell for cell in first if _SENTENCE.fullmatch(cell)), None)
    return None if sentence is None else f"'{sentence[:40]}' is a sentence"


@cache
def _keys() -> frozenset[str]:
    """The keys of every format's sample, but for single letters, which answers are as well."""
    found = {"id"}
    for name in names("formats"):
        component = find("formats", name)
        if issubclass(component, Format):
            found |= {key.casefold() for key in component.sample if len(key) > 1}
    return frozenset(found)
