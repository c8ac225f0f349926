"""What a source holds before anything is done to it: format and why, its columns with statistics, its first rows."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..core.contracts import Format
from ..core.errors import DataError
from ..core.example import Example
from ..core.recipe import Source
from .cut import cut
from .detect import LOOKED_AT, read_keys
from .reading import Reading
from .row import BadRow, Record
from .source_files import Place, file_places

__all__ = ["Column", "ShownFile", "show"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column (a key of the records). filled: rows in which it is not empty; kinds: what its values are, most first.

    read: the format's key that it is read as; None where the format passes it over. size: how long or large they are.
    """

    name: str
    read: str | None
    filled: int
    kinds: tuple[str, ...]
    distinct: int
    size: str
    first: str


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file as a recipe would read it. format: None where none fits, with the `problem` that reading would raise.

    rows: those looked at; unread: those of them that cannot be read. classes: how many rows have each target, where
    targets are classes; examples: the first rows.
    """

    path: str
    format: str | None
    because: str
    rows: int
    unread: tuple[BadRow, ...]
    columns: tuple[Column, ...]
    classes: Mapping[str, int]
    examples: tuple[Example, ...]
    problem: DataError | None = None


def show(source: Source, rows: int = 3) -> Iterator[ShownFile]:
    """Each file of the source; at most `source.limit` rows of all files are looked at, and `rows` of each file kept.

    Errors: DataError as reading, but for a format that is not told, or a column that is not there: see `problem`.
    """
    left = source.limit
    with tempfile.TemporaryDirectory() as unpacked:
        for place in file_places(source):
            found, told = _first(place, source, left, Path(unpacked))
            left = None if left is None else left - len(found)
            yield _shown(Reading(source, place.shown, place.stem), found, told, rows)
            if left == 0:
                return


def _first(
    place: Place, source: Source, most: int | None, unpacked: Path
) -> tuple[list[Record | BadRow], tuple[Format, str] | None]:
    """The first records of a file, and the format that found them in it, where one had to; of a large file no more is
    read than holds them.
    """
    pieces = cut(place, source, unpacked)
    if pieces is not None:
        records = chain.from_iterable(piece.records(place.shown) for piece in pieces.pieces)
        return list(islice(records, most)), None
    loaded = place.load()
    return loaded.rows[:most], loaded.told


def _shown(asked: Reading, found: Sequence[Record | BadRow], told: tuple[Format, str] | None, rows: int) -> ShownFile:
    records = [row for row in found if isinstance(row, Record)]
    bad = [row for row in found if isinstance(row, BadRow)]
    chosen, because, problem = None, "no row can be read", None
    examples: list[Example] = []
    if records:
        try:
            asked.refuse_missing(list(dict.fromkeys(key for record in records for key in record.value)))
            chosen, because = asked.format_of(records, told)
        except DataError as error:
            because, problem = error.problems[0].found, error
    if chosen is not None:
        made = [asked.example(chosen, record) for record in records]
        examples = [one for one in made if isinstance(one, Example)]
        bad += [one for one in made if isinstance(one, BadRow)]
    classes = Counter(example.target for example in examples if isinstance(example.target, str))
    return ShownFile(
        asked.shown,
        chosen.component_name() if chosen else None,
        because,
        len(found),
        tuple(sorted(bad, key=lambda row: row.row)),
        tuple(_columns(records, _read_as(chosen, asked, records))),
        dict(classes.most_common()),
        tuple(examples[:rows]),
        problem,
    )


def _read_as(chosen: Format | None, asked: Reading, records: Sequence[Record]) -> Mapping[str, str]:
    """The format's key for each column of the file that it reads, as the first records tell."""
    if chosen is None:
        return {}
    columns = asked.source.columns
    used = {key for record in records[:LOOKED_AT] for key in read_keys(chosen, asked.renamed(record.value))}
    return {columns.get(key, key): key for key in [*used, "id"]}


def _columns(records: Sequence[Record], read: Mapping[str, str]) -> Iterator[Column]:
    names = dict.fromkeys(key for record in records for key in record.value)
    for name in names:
        values = [value for record in records if (value := record.value.get(name)) not in (None, "")]
        kinds = Counter(map(_kind, values))
        yield Column(
            name,
            read.get(name),
            len(values),
            tuple(kind for kind, _ in kinds.most_common()),
            len({_plain(value) for value in values}),
            _size(values),
            _plain(values[0]) if values else "",
        )


def _kind(value: Any) -> str:
    for kind, name in ((bool, "true or false"), (str, "text"), ((int, float), "number"), (Mapping, "object")):
        if isinstance(value, kind):
            return name
    return "list" if isinstance(value, (list, tuple)) else type(value).__name__


def _size(values: Iterable[Any]) -> str:
    """The median and the largest length of texts or lists, or the range of numbers."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if numbers:
        return f"{min(numbers):g} to {max(numbers):g}"
    for kind, unit in ((str, "characters"), (list, "items")):
        lengths = [len(value) for value in values if isinstance(value, kind)]
        if lengths:
            return f"median {statistics.median(lengths):g}, up to {max(lengths):,} {unit}"
    return ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
