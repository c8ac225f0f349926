"""Examples to and from Parquet: equal examples come back, and the same examples give the same bytes.

Columns: id, parts, target and groups (JSON text), weight, repeat, file, row, parents, steps, synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.example import Example
from .columnar import write_columns

__all__ = ["read_examples", "write_examples"]

_JSON = ("parts", "target", "groups")
_BATCH = 2**14  # rows that are read at once
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


def write_examples(path: Path, examples: Sequence[Example]) -> None:
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return [_from_row(row) for batch in file.iter_batches(_BATCH) for row in batch.to_pylist()]
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
