"""Rows of a database by one query, through SQLAlchemy: read only, in the query's order, nothing written or committed.

An address names no password where others read it: `env:NAME` stands for an address in the environment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.database import NAMED, query_problems
from ..core.errors import DataError, LuthierError, MachineError, MissingExtra, Problem, first_line, nearest
from ..core.redact import redact
from .row import BadRow, Record

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

__all__ = ["address_problems", "database_file", "sql_rows"]

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<file>[^?]+)(?:\?.*)?")


def database_file(path: str) -> Path | None:
    """The file of an SQLite address, None for any other path."""
    match = _SQLITE.fullmatch(os.environ.get(path.removeprefix(NAMED), "") if path.startswith(NAMED) else path)
    return Path(match["file"]) if match and match["file"] != ":memory:" else None


def address_problems(path: str) -> Sequence[Problem]:
    """What can be known to be wrong with an address before it is used; empty where nothing is."""
    try:
        _address(path)
        if importlib.util.find_spec("sqlalchemy") is None:
            raise MissingExtra.of("sql", f"the database {redact(path)}")
    except LuthierError as error:
        return error.problems
    return ()


def sql_rows(path: str, query: str, most: int | None = None) -> tuple[str, list[Record | BadRow]]:
    """What begins the rows' ids, and the rows, at most so many; each database and query has a beginning of its own.

    Errors: MissingExtra without SQLAlchemy or the database's driver; DataError for an address that names no database,
    for a query that does not read in order, and for what the database refuses.
    """
    shown = redact(path)
    problems = [problem.at(shown) for problem in query_problems(path, query)]
    if problems:
        raise DataError(problems)
    address = _address(path)
    try:
        import sqlalchemy
    except ImportError as error:
        raise MissingExtra.of("sql", f"the database {shown}") from error
    try:
        url = _read_only(sqlalchemy.make_url(address))
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, hide_parameters=True)
        with engine.connect() as connection:
            rows = _rows(connection, query, shown, most)
    except ModuleNotFoundError as error:
        raise MachineError(
            f"the database needs a driver that is not installed: {error.name}",
            where=shown,
            remedy=f"pip install {error.name}, or name the driver that is there: postgresql+psycopg://...",
        ) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        refused = getattr(error, "orig", None) or error
        raise DataError(
            f"the database refuses: {first_line(refused)}",
            where=shown,
            expected="a database that can be reached, and tables and columns that the query names",
            remedy="try the address and the query in the database's own client",
        ) from error
    name = Path(url.database or "").stem or "rows"
    return f"{name}-{hashlib.sha256(query.encode()).hexdigest()[:6]}", rows


def _address(path: str) -> str:
    """The address itself. Errors: DataError where its variable is not set, or where it names no file of SQLite."""
    address = path
    if path.startswith(NAMED):
        name = path.removeprefix(NAMED)
        address = os.environ.get(name, "")
        if not address:
            raise DataError(
                f"the environment variable {name} is not set",
                where=path,
                expected="a database's address in it, such as postgresql://reader@host/shop",
                remedy=f"export {name}=... before the command",
            )
    if not address.startswith("sqlite"):
        return address
    file = database_file(address)
    if file is None or not file.is_file():
        beside = sorted(entry.name for entry in file.parent.iterdir()) if file and file.parent.is_dir() else []
        near = nearest(file.name, beside) if file else None
        raise DataError(
            f"there is no file '{file}'" if file else "the address names no file",
            where=redact(path),
            expected="sqlite:/// and the path of a database file (a fourth slash begins an absolute path)",
            remedy=f"did you mean '{near}'?" if near else f"see whether the path is right from {Path.cwd()}",
        )
    return address


def _read_only(url: URL) -> URL:
    """The address by which SQLite opens the file to read alone; another database is told when it is connected to."""
    if url.get_backend_name() != "sqlite":
        return url
    file = Path(url.database or "").resolve().as_uri()
    return url.set(database=file, query={**url.query, "mode": "ro", "uri": "true"})


def _rows(connection: Connection, query: str, shown: str, most: int | None) -> list[Record | BadRow]:
    from sqlalchemy import text

    if connection.dialect.name == "postgresql":
        connection = connection.execution_options(postgresql_readonly=True)
    # SQLAlchemy takes a colon for a parameter unless a backslash stands before it.
    result = connection.execution_options(stream_results=True).execute(text(query.replace(":", r"\:")))
    columns = list(result.keys())
    doubled = sorted(name for name, count in Counter(columns).items() if count > 1)
    if doubled:
        raise DataError(
            f"columns come twice: {', '.join(doubled[:10])}",
            where=shown,
            expected="a name of its own for each",
            remedy="name them in the query: SELECT a.id, b.id AS other",
        )
    found = result.fetchall() if most is None else result.fetchmany(most)
    return [_row(shown, number, columns, row) for number, row in enumerate(found, 1)]


def _row(shown: str, number: int, columns: Sequence[str], values: Sequence[Any]) -> Record | BadRow:
    try:
        return Record(number, dict(_cells(columns, values)))
    except UnicodeDecodeError as error:
        reason = f"not valid UTF-8: byte 0x{error.object[error.start]:02X} at place {error.start + 1} of a value"
        return BadRow(shown, number, reason, "")


def _cells(columns: Sequence[str], values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The cells as plain values, as JSON would have them."""
    for column, value in zip(columns, values, strict=True):
        if isinstance(value, (bytes, memoryview)):
            value = bytes(value).decode("utf-8")
        elif isinstance(value, Decimal):
            value = int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
        elif isinstance(value, (datetime, date, time)):
            value = value.isoformat()
        elif value is not None and not isinstance(value, (str, int, float, list, tuple, dict)):
            value = str(value)
        yield column, value
