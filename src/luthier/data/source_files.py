"""The files of a source, one at a time: of a folder, embedded data, hub data sets and databases too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..core.contracts import Format
from ..core.embedded import PREFIX, embedded_data
from ..core.errors import DataError
from ..core.recipe import Source
from ..core.redact import redact
from .detect import unfolded
from .hub import folder_of, hub_records, looks_like_hub
from .places import absent, closed, data_files, folder_problems, no_file
from .records import data_suffix, records
from .row import BadRow, Record
from .sql import sql_rows
from .unpack import refuse_beyond_memory

__all__ = ["Loaded", "Place", "file_places", "opening"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file's rows and facts before a format has looked at them; sha256 and size (bytes) are of the file as it lies.

    told: the format that found the rows in the file, and why, where one had to.
    """

    rows: list[Record | BadRow]
    sha256: str
    size: int
    told: tuple[Format, str] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A file before it is read, or what comes as values; `stem` begins the ids of its rows.

    load: reads it whole. path: the file; None for what comes as values.
    """

    shown: str
    stem: str
    load: Callable[[], Loaded]
    path: Path | None = None


def file_places(source: Source) -> Iterator[Place]:
    """The files of a source in order. Errors: DataError for what is absent or closed, or a folder without data."""
    path = Path(source.path)
    if source.query is not None:
        stem, found = sql_rows(source.path, source.query, source.limit)
        yield _of_values(redact(source.path), stem, found)
    elif source.path.startswith(PREFIX):
        yield _place(embedded_data(source.path), source.path, source.path.removeprefix(PREFIX), source)
    elif (saved := folder_of(source.path)) is not None:
        folder, split = saved
        rows = [Record(number, row) for number, row in enumerate(hub_records(source.path), 1)]
        yield _of_values(source.path, f"{folder.name}#{split}" if split else folder.name, rows)
    elif path.is_dir():
        yield from _folder(path, source)
    elif path.is_file():
        yield _place(path, source.path, _stem(path.name), source)
    elif path.exists() or path.is_symlink():
        raise DataError(no_file(source.path))
    elif looks_like_hub(source.path):
        rows = [Record(number, row) for number, row in enumerate(hub_records(source.path), 1)]
        yield _of_values(source.path, source.path, rows)
    else:
        raise DataError(absent(source.path))


def _place(path: Path, shown: str, stem: str, source: Source) -> Place:
    return Place(shown, stem, partial(_load, path, shown, source), path)


def _of_values(shown: str, stem: str, rows: Sequence[Record | BadRow]) -> Place:
    """Rows that came as values and not as a file's bytes."""
    values = [row.value if isinstance(row, Record) else row.reason for row in rows]
    text = "\n".join(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str) for value in values).encode()
    loaded = Loaded(list(rows), hashlib.sha256(text).hexdigest(), len(text))
    return Place(shown, stem, lambda: loaded)


def _folder(folder: Path, source: Source) -> Iterator[Place]:
    shown = source.path
    problems = folder_problems(folder, shown)
    if problems:
        raise DataError(problems)
    for relative in data_files(folder):
        yield _place(folder / relative, f"{shown.rstrip('/')}/{relative}", _stem(relative), source)


def _stem(name: str) -> str:
    suffix = data_suffix(name)
    return name[: name.lower().rindex(suffix)] if suffix else Path(name).stem


@contextmanager
def opening(shown: str) -> Iterator[None]:
    """Turns what the system refuses when a file is read into a DataError."""
    try:
        yield
    except PermissionError as error:
        raise DataError(closed(shown)) from error
    except OSError as error:
        raise DataError(
            f"the file cannot be opened: {error.strerror}", where=shown, remedy="see whether the disk can be read"
        ) from error


def _load(path: Path, shown: str, source: Source) -> Loaded:
    chosen = source.format
    with opening(shown):
        refuse_beyond_memory(path.stat().st_size, shown)
        data = path.read_bytes()
    # An embedded file's kind stands in its own name, not in the one that the recipe uses.
    kind = chosen.file_kind if isinstance(chosen, Format) else None
    rows: list[Record | BadRow] = [
        replace(row, file=shown) if isinstance(row, BadRow) else row
        for row in records(
            data, path.name if shown.startswith(PREFIX) else shown, kind, source.header, set(source.columns.values())
        )
    ]
    only = rows[0] if len(rows) == 1 else None
    told = None
    if isinstance(only, Record) and (found := unfolded(only.value, chosen)):
        told, many = found[:2], found[2]
        rows = [Record(number, value) for number, value in enumerate(many, 1)]
    return Loaded(rows, hashlib.sha256(data).hexdigest(), len(data), told)
