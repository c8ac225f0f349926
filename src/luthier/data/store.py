"""Examples to and from Parquet: equal examples come back, and the same examples give the same bytes.

Columns: id, parts, target and groups (JSON text), weight, file, row, parents, steps, synthetic.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.example import Example
from ..core.files import write_atomic

__all__ = ["read_examples", "write_examples"]

_JSON = ("parts", "target", "groups")


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Writes the examples in their order, whole or not at all. Errors: MachineError as write_atomic."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    schema = pa.schema(
        [("id", pa.string())]
        + [(name, pa.string()) for name in _JSON]
        + [("weight", pa.float64()), ("file", pa.string()), ("row", pa.int64())]
        + [("parents", texts), ("steps", texts), ("synthetic", pa.bool_())]
    )
    table = pa.Table.from_pylist([_to_row(example) for example in examples], schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


def read_examples(path: Path) -> list[Example]:
    """The examples of a file that write_examples wrote. Errors: DataError where it is absent, torn or another's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
        return [_from_row(row) for row in rows]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DataError(
            f"the prepared data cannot be read: {error}",
            where=str(path),
            expected="a Parquet file that luthier wrote",
            remedy="delete the file and give the same command again; the data is then prepared anew",
        ) from error


def _to_row(example: Example) -> dict[str, Any]:
    value = example.to_json()
    return {
        "id": value["id"],
        **{name: json.dumps(value[name], ensure_ascii=False) for name in _JSON},
        "weight": value["weight"],
        **value["origin"],
    }


def _from_row(row: dict[str, Any]) -> Example:
    origin = {name: row[name] for name in ("file", "row", "parents", "steps", "synthetic")}
    return Example.from_json(
        {
            "id": row["id"],
            **{name: json.loads(row[name]) for name in _JSON},
            "weight": row["weight"],
            "origin": origin,
        }
    )
