"""Parquet in and out: a file's rows, batch by batch, with a limit to what its pages unpack to; and rows as columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.errors import DataError, first_line
from ..core.files import file_aside
from .row import BadRow, Record
from .unpack import TIMES, most_bytes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GROUP", "batched", "parquet", "write_columns"]

Item = TypeVar("Item")

GROUP = 2**14
"""Rows that are laid out as columns, written and read at once."""
_BATCH = 1024  # rows
_CELL = 8  # bytes that even an absent value takes as a Python object
_UNREADABLE = (UnicodeDecodeError, OverflowError, ValueError)  # text that is no UTF-8, dates beyond the year 9999


def parquet(
    data: bytes | Path, name: str, groups: Sequence[int] | None = None, first: int = 1
) -> Iterator[Record | BadRow]:
    """The rows of a file, or of some of its groups, of which the first row has the number `first`.

    A row whose values cannot be read is told alone. Errors: DataError where the file is damaged, names a column twice,
    or unpacks to more than its size allows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = len(data) if isinstance(data, bytes) else data.stat().st_size
    row, total, most = first - 1, 0, most_bytes(size)
    try:
        file = pq.ParquetFile(pa.BufferReader(data) if isinstance(data, bytes) else data)
        _refuse_doubled(file.schema_arrow.names, name)
        if _told(file.metadata) > most:
            raise _too_large(size, name)
        for batch in file.iter_batches(batch_size=_BATCH, row_groups=groups):
            total += sum(map(_bytes, batch.columns)) + _CELL * batch.num_rows * (1 + batch.num_columns)
            if total > most:
                raise _too_large(size, name)
            for value in _values(batch):
                row += 1
                yield BadRow(name, row, value, "") if isinstance(value, str) else Record(row, value)
    except (OSError, pa.ArrowException, *_UNREADABLE) as error:
        raise DataError(
            f"the Parquet file is damaged: {first_line(error)}",
            where=name,
            expected="a whole Parquet file",
            remedy="fetch or write the file again",
        ) from error


def write_columns(
    path: Path, items: Iterable[Item], schema: pa.Schema, columns: Mapping[str, Callable[[Item], Any]]
) -> None:
    """Writes one row for each item, whole or not at all; the same items give the same bytes.

    columns: for each column of `schema` its value of an item. Items are taken as they are written, a group at a time.
    Errors: MachineError as file_aside.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file_aside(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as file:
        for some in batched(items, GROUP):
            arrays = [pa.array([columns[column.name](item) for item in some], type=column.type) for column in schema]
            file.write_table(pa.table(arrays, schema=schema))


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in runs of `size`, the last one shorter."""
    source = iter(items)
    while some := list(islice(source, size)):
        yield some


def _told(metadata: Any) -> int:
    """The bytes that the file itself says it unpacks to: its pages, or its rows if they are many and empty."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    pages = sum(group.column(at).total_uncompressed_size for group in groups for at in range(group.num_columns))
    return int(max(pages, _CELL * metadata.num_rows * (1 + metadata.num_columns)))


def _bytes(column: pa.Array) -> int:
    """The bytes of a column's values; a text that rows name by its number in a dictionary counts for each of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    if not (pa.types.is_string(column.type.value_type) or pa.types.is_binary(column.type.value_type)):
        return int(column.nbytes)
    return int(pc.sum(pc.binary_length(column.dictionary).cast(pa.int64()).take(column.indices)).as_py() or 0)


def _values(batch: pa.RecordBatch) -> Iterator[Mapping[str, Any] | str]:
    """Each row of the batch, or why it cannot be read."""
    try:
        yield from batch.to_pylist()
    except _UNREADABLE:
        for number in range(batch.num_rows):
            try:
                yield batch.slice(number, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield f"not valid UTF-8: byte 0x{error.object[error.start]:02X} at place {error.start + 1} of a text"
            except (OverflowError, ValueError) as error:
                yield f"not a value: {error}"


def _refuse_doubled(columns: list[str], name: str) -> None:
    doubled = sorted(column for column, count in Counter(columns).items() if count > 1)
    if doubled:
        raise DataError(
            f"columns come twice: {', '.join(doubled[:10])}",
            where=name,
            expected="a name of its own for each",
            remedy="rename or remove one of them and write the file again",
        )


def _too_large(packed: int, name: str) -> DataError:
    return DataError(
        f"the Parquet file of {packed:,} bytes unpacks to more than {most_bytes(packed):,} bytes",
        where=name,
        expected=f"at most {TIMES} times its size: what packs better than any text is made to fill memory",
        remedy="where you trust it, write its rows as JSONL and name that file",
    )
