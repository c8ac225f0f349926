"""What a recipe may say of a database: where it is, and one query that reads it in an order of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .errors import Problem

__all__ = ["NAMED", "is_address", "query_problems"]

NAMED = "env:"
"""Begins the name of an environment variable that holds an address."""

_ADDRESS = re.compile(r"env:[A-Za-z_]\w*|(?P<scheme>[a-z][a-z0-9]*)(?:\+\w+)?://.*", re.DOTALL)
_FILES = {"http", "https", "ftp", "file", "s3", "gs", "hf", "az", "abfs"}
_SKIPPED = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", re.DOTALL)
_INNER = re.compile(r"\([^()]*\)")
_EXAMPLE = "SELECT id, text, label FROM notes ORDER BY id"


def is_address(path: str) -> bool:
    """Whether a source's path is a database's: sqlite:///shop.db, postgresql://host/shop, env:NAME."""
    match = _ADDRESS.fullmatch(path)
    return match is not None and match["scheme"] not in _FILES


def query_problems(path: str, query: str | None) -> Iterator[Problem]:
    """What is wrong with a source's path and query together: a database has one that reads, in order; a file none."""
    if not is_address(path):
        if query is not None:
            yield Problem(
                "a query is given, and path is no database's address",
                expected="an address such as sqlite:///shop.db, or env:NAME of the variable that holds it",
                remedy="give the address in path, or leave the query out",
            )
        return
    if query is None:
        yield Problem(
            "the path is a database's, and there is no query",
            expected=f"query: {_EXAMPLE}",
            remedy="say which rows to read, and in which order",
        )
        return
    outline = _outline(query)
    if not re.match(r"\s*(?:select|with)\b", outline, re.IGNORECASE) or re.search(r";\s*\S", outline):
        yield Problem(
            "the query is not one SELECT",
            expected=f"one statement that reads, such as {_EXAMPLE}",
            remedy="do in the database beforehand what the rows need, and only read them here",
        )
    elif not re.search(r"\border\s+by\b", outline, re.IGNORECASE):
        yield Problem(
            "the query asks for no order, so that the same rows may come in another one next time",
            expected=f"ORDER BY at its end, such as {_EXAMPLE}",
            remedy="order by columns that tell all rows apart; the split and the rows' ids go by it",
        )


def _outline(query: str) -> str:
    """The query without comments, texts, quoted names, and whatever stands in parentheses."""
    text = _SKIPPED.sub(" ", query)
    while (outer := _INNER.sub(" ", text)) != text:
        text = outer
    return text
