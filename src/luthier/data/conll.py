"""Tagged tokens, one a line in columns, with blank lines between sentences: CoNLL's files, also named .bio and .iob.

Columns are parted by tabs, or by spaces where the line has no tab; the first is the token, the last its tag, and those
between are kept as column_2, column_3, ... A record is a sentence, and its row the line where it starts.
Source: the shared tasks CoNLL-2002 and CoNLL-2003 (Tjong Kim Sang and De Meulder); comments as in CoNLL-U.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from ..core.errors import DataError
from . import row as limits
from .row import BadRow, Record, decoded, overlong, readable

__all__ = ["conll", "looks_like_conll"]

_TAG = re.compile(r"O|[BIESLU]-\S+")
_DOCUMENT = "-DOCSTART-"
_LOOKED_AT = 1000  # lines that tell how many columns the file has
_ENOUGH = 5  # lines that must be alike before text is taken for columns

Lines = list[tuple[int, str]]


def looks_like_conll(data: bytes) -> bool:
    """Whether text of no telling name begins as columns whose last is O or a tag such as B-PER."""
    lines = [line for line in data[:4096].decode("utf-8", "replace").split("\n")[:-1] if line.strip()][:50]
    rows = [_cells(line.rstrip("\r")) for line in lines if not line.startswith((_DOCUMENT, "#"))]
    return len(rows) >= _ENOUGH and all(len(cells) > 1 and _TAG.fullmatch(cells[-1]) for cells in rows)


def conll(data: bytes, name: str) -> Iterator[Record | BadRow]:
    """The sentences of a file. Errors: DataError where its lines have one column alone."""
    text, bad = decoded(data)
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    width = _width(lines)
    if width < 2:
        raise DataError(
            "the lines have one column, and no tags",
            where=name,
            expected="a token and its tag on each line, parted by a tab or spaces, with blank lines between sentences",
            remedy="add the tags, or give the file the ending of what it is (.txt for plain text)",
        )
    for sentence in _sentences(lines, width):
        yield _sentence(sentence, width, bad, name)


def _cells(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]


def _width(lines: list[str]) -> int:
    """The number of columns that most of the first lines have."""
    tokens = (line for line in lines if line.strip() and not line.startswith((_DOCUMENT, "#")))
    counts = Counter(len(_cells(line)) for _, line in zip(range(_LOOKED_AT), tokens, strict=False))
    return max(counts, key=lambda width: (counts[width], width)) if counts else 0


def _sentences(lines: list[str], width: int) -> Iterator[Lines]:
    """Numbered lines from one blank line to the next, without marks of documents and comments before a sentence."""
    found: Lines = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            if found:
                yield found
            found = []
        elif line.startswith(_DOCUMENT) or (not found and line.startswith("#") and len(_cells(line)) != width):
            continue
        else:
            found.append((number, line))
    if found:
        yield found


def _sentence(lines: Lines, width: int, bad: Mapping[int, str], name: str) -> Record | BadRow:
    start = lines[0][0]
    raw = readable("\n".join(line for _, line in lines))
    if len(raw) > limits.LONGEST_ROW:
        return overlong(name, start, raw)
    rows: list[list[str]] = []
    for number, line in lines:
        cells = _cells(line)
        if number in bad:
            return BadRow(name, start, bad[number], raw)
        if len(cells) != width:
            reason = f"wrong number of columns: {len(cells)} in line {number} where the file has {width}"
            return BadRow(name, start, reason, raw)
        rows.append(cells)
    columns = list(zip(*rows, strict=True))
    between = {f"column_{number}": list(column) for number, column in enumerate(columns[1:-1], 2)}
    return Record(start, {"tokens": list(columns[0]), "tags": list(columns[-1]), **between})
