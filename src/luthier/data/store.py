"""Examples to and from Parquet: equal examples come back, and the same examples give the same bytes.

Columns: id, parts, target and groups (JSON text), weight, repeat, file, row, parents, steps, synthetic.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

from ..core.errors import DataError
from ..core.example import Example
from .columnar import write_columns

__all__ = ["Stored", "StoredItems", "read_examples", "write_examples"]

Item = TypeVar("Item")

_JSON = ("parts", "target", "groups")
_encoded = json.JSONEncoder(ensure_ascii=False).encode
_COLUMNS: Mapping[str, Callable[[Example], Any]] = {
    "id": lambda example: example.id,
    "parts": lambda example: _encoded(example.plain_parts()),
    "target": lambda example: _encoded(example.target),
    "groups": lambda example: _encoded(dict(example.groups)),
    "weight": lambda example: example.weight,
    "repeat": lambda example: example.repeat,
    "file": lambda example: example.origin.file,
    "row": lambda example: example.origin.row,
    "parents": lambda example: example.origin.parents,
    "steps": lambda example: example.origin.steps,
    "synthetic": lambda example: example.origin.synthetic,
}


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Writes the examples in their order, whole or not at all. Errors: MachineError as write_atomic."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    schema = pa.schema(
        [("id", pa.string())]
        + [(name, pa.string()) for name in _JSON]
        + [("weight", pa.float64()), ("repeat", pa.float64()), ("file", pa.string()), ("row", pa.int64())]
        + [("parents", texts), ("steps", texts), ("synthetic", pa.bool_())]
    )
    write_columns(path, examples, schema, _COLUMNS)


def read_examples(path: Path) -> list[Example]:
    """The examples of a file that write_examples wrote. Errors: DataError where it is absent, torn or another's."""
    return list(Stored([path]))


class StoredItems(Sequence[Item]):
    """The items of files that columnar.write_columns wrote, one file after the other, read as they are asked for.

    What is held is one group of rows: places that lie together should be asked for together. Slices are lists.
    of_row: makes an item of a row's values. Errors: DataError where a file is absent, torn or another's.
    """

    def __init__(self, files: Sequence[Path], of_row: Callable[[dict[str, Any]], Item]) -> None:
        self.files, self._of_row = tuple(files), of_row
        self._starts = [0]  # the first place of each group of rows, and the end
        self._groups: list[tuple[Path, int]] = []  # each group's file and its number there
        for path in self.files:
            with _readable(path) as file:
                sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            for number, size in enumerate(sizes):
                self._groups.append((path, number))
                self._starts.append(self._starts[-1] + size)
        self._held: tuple[int, list[Item]] = (-1, [])

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Item]:
        # Not through what is held: two may walk through the items side by side.
        for path, number in self._groups:
            yield from self._group(path, number)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> list[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | list[Item]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        place = at + len(self) if at < 0 else at
        if not 0 <= place < len(self):
            raise IndexError(at)
        number = bisect_right(self._starts, place) - 1
        if self._held[0] != number:
            self._held = (number, self._group(*self._groups[number]))
        return self._held[1][place - self._starts[number]]

    def _group(self, path: Path, number: int) -> list[Item]:
        with _readable(path) as file:
            return [self._of_row(row) for row in file.read_row_group(number).to_pylist()]


class Stored(StoredItems[Example]):
    """The examples of files that write_examples wrote. Errors: as StoredItems."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__(files, _from_row)


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DataError(
            f"the prepared data cannot be read: {error}",
            where=str(path),
            expected="a Parquet file that luthier wrote",
            remedy="delete the file and give the same command again; the data is then prepared anew",
        ) from error


def _from_row(row: dict[str, Any]) -> Example:
    origin = {name: row[name] for name in ("file", "row", "parents", "steps", "synthetic")}
    return Example.from_json(
        {
            "id": row["id"],
            **{name: json.loads(row[name]) for name in _JSON},
            "weight": row["weight"],
            "repeat": row["repeat"],
            "origin": origin,
        }
    )
