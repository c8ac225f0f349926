"""A row as its file holds it, and one that could not be read; text from bytes that may be damaged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "LONGEST_ROW",
    "BadRow",
    "Record",
    "damaged_lines",
    "decoded",
    "has_half",
    "lines_of",
    "overlong",
    "readable",
]

LONGEST_ROW = 2**28
"""Bytes of one row; a longer one is damage far more often than data, and would take many times its size in memory."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 300  # characters of a reason that are shown; the ledger keeps all


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read: where it is, why, and its raw text; remedy: where there is one of its own."""

    file: str
    row: int
    reason: str
    text: str
    remedy: str | None = None

    @property
    def kind(self) -> str:
        """The reason without its details."""
        return self.reason.partition(": ")[0]

    def __str__(self) -> str:
        reason = self.reason if len(self.reason) <= _SHOWN else self.reason[:_SHOWN] + " …"
        return f"{self.file}:{self.row}: {reason}"


@dataclass(frozen=True, slots=True)
class Record:
    """A row as its file holds it, before any format has looked at it."""

    row: int
    value: Mapping[str, Any]


def lines_of(data: bytes) -> Iterator[bytes]:
    """The lines without their line feeds, one at a time: a list of them would hold the file a second time.

    A line of more than LONGEST_ROW bytes is cut to one byte more than that.
    """
    start, most = 0, LONGEST_ROW + 1
    while (end := data.find(b"\n", start)) >= 0:
        yield data[start : min(end, start + most)]
        start = end + 1
    yield data[start : start + most]


def overlong(name: str, row: int, text: str) -> BadRow:
    """The refusal of a row that is longer than LONGEST_ROW; only the beginning of its text is kept."""
    reason = f"over-long row: more than {LONGEST_ROW:,} bytes, the most that are read as one row"
    remedy = (
        "cut it into several rows (a text into several files in one folder); a missing line end makes such rows too"
    )
    return BadRow(name, row, reason, readable(text[:1000]), remedy)


def damaged_lines(data: bytes, first: int = 1) -> dict[int, str]:
    """What and where the first NUL byte is, or the first that is no UTF-8, for each line that has one.

    first: the number of the first line.
    """
    found: dict[int, str] = {}
    for number, line in enumerate(lines_of(data), first):
        nul = line.find(0)
        if nul >= 0:
            found[number] = f"not text: a NUL byte at place {nul + 1} of line {number}"
            continue
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            found[number] = (
                f"not valid UTF-8: byte 0x{line[error.start]:02X} at place {error.start + 1} of line {number}"
            )
    return found


def decoded(data: bytes) -> tuple[str, dict[int, str]]:
    """The text, undecodable bytes as lone surrogates, and the lines that are damaged."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape"), damaged_lines(data)
    return text, damaged_lines(data) if "\0" in text else {}


def readable(text: str) -> str:
    """The text with what could not be decoded as replacement characters, so that it can be written again."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if _SURROGATE.search(text) else text


def has_half(value: Any) -> bool:
    """Whether a text somewhere in a JSON value holds half of a surrogate pair."""
    if isinstance(value, str):
        return bool(_SURROGATE.search(value))
    if isinstance(value, dict):
        return any(has_half(key) or has_half(item) for key, item in value.items())
    return isinstance(value, list) and any(has_half(item) for item in value)
