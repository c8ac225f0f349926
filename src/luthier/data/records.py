"""From a file's bytes to its records: the kind is told by content first, then by name; damage is set aside row by row.

JSONL, JSON (an array, an object of arrays, or one object), CSV, TSV, Parquet, CoNLL and text, each also as gzip, xz or
zstd. A record's row is the line where it starts in JSONL, CSV, TSV and CoNLL, its place in JSON and Parquet, 1 in text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..core.errors import DataError
from . import row as limits
from .columnar import parquet
from .conll import conll, looks_like_conll
from .row import BadRow, Record, damaged_lines, decoded, has_half, lines_of, overlong, readable
from .table import table
from .unpack import refuse_beyond_memory, refuse_foreign, unpacked

__all__ = ["BOM", "data_suffix", "json_lines", "kind_of", "records"]

_KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".conll": "conll",
    ".conll.txt": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".txt": "text",
    ".md": "text",
}
_COMPRESSED = (".gz", ".xz", ".zst")
BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"\s*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_HTML = re.compile(rb"\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_DEEPEST = 100  # levels of lists and objects in each other; no row has more, and Python's own limit is near 1000
_TOO_DEEP = f"nested too deeply: more than {_DEEPEST} lists and objects in each other"


def data_suffix(name: str) -> str | None:
    """The suffix that tells what a data file holds, without that of a compression; None for no data file."""
    lower = name.lower()
    for compressed in _COMPRESSED:
        lower = lower.removesuffix(compressed)
    return next((suffix for suffix in _KINDS if lower.endswith(suffix)), None)


def records(
    data: bytes, name: str, meant: str | None = None, header: bool | None = None, asked: Collection[str] = ()
) -> Iterator[Record | BadRow]:
    """The records of a file with these bytes; `name` tells the kind where the bytes do not, and stands in messages.

    meant: the kind that text, and what has no telling name, is of where the format is known (Format.file_kind).
    header, asked: of a table, as in `table`.

    Errors: DataError where the whole file cannot be read: cut or twofold compression, what unpacks without end, UTF-16,
    an archive, an unknown kind, nothing in it; MachineError where it does not fit into memory.
    """
    data = unpacked(data, name)
    refuse_beyond_memory(len(data), name)
    refuse_foreign(data, name)
    data = data.removeprefix(BOM)
    if not data or data.isspace():
        raise DataError(
            "the file is empty",
            where=name,
            expected="at least one row",
            remedy="fill it, or name another file; was it written or fetched to its end?",
        )
    kind = kind_of(data, name, meant)
    if kind == "parquet":
        return parquet(data, name)
    if kind == "jsonl":
        return json_lines(data, name)
    if kind == "json":
        return _json(data, name)
    if kind == "conll":
        return conll(data, name)
    if kind == "text":
        return _text(data, name)
    return table(data, name, kind == "tsv", header, asked)


def kind_of(data: bytes, name: str, meant: str | None) -> str:
    """jsonl, json, csv, tsv, parquet, conll or text, by the first lines and the name. Errors: as `records`."""
    suffix = data_suffix(name)
    kind = _KINDS[suffix] if suffix else None
    if data.startswith(b"PAR1"):
        return "parquet"
    if kind == "parquet":
        raise DataError(
            "the file is named .parquet and is none",
            where=name,
            expected="bytes that start with PAR1",
            remedy="fetch or write the file again, or give it the ending of what it is",
        )
    head = data[:4096].lstrip()
    if kind != "text" and _HTML.match(head):
        raise DataError(
            "the file is a web page, not the data",
            where=name,
            expected="JSONL, JSON, CSV, TSV, Parquet or text",
            remedy="fetch the data itself: such a page often says that an address is wrong or needs a login",
        )
    if kind in ("json", "jsonl", None):
        if head.startswith(b"["):
            return "jsonl" if kind == "jsonl" and _starts_as_lines(data, list) else "json"
        if head.startswith(b"{"):
            return "jsonl" if kind == "jsonl" or _starts_as_lines(data, dict) else "json"
    elif head.startswith(b"{") and _starts_as_lines(data, dict, alone=True):
        return "jsonl"
    if kind in (None, "text") and (meant or looks_like_conll(data)):
        return meant or "conll"
    if kind is not None:
        return kind
    raise DataError(
        "what the file holds can be told neither by its name nor by its content",
        where=name,
        expected="JSONL, JSON, CSV, TSV, Parquet, CoNLL or text (.txt, .md), also as .gz, .xz or .zst",
        remedy="give the file its usual ending",
    )


def _starts_as_lines(data: bytes, kind: type, alone: bool = False) -> bool:
    """Whether the first line is a value of its own, of this kind, with more lines after it (or `alone`)."""
    begin = len(data) - len(data.lstrip())
    end = data.find(b"\n", begin)
    if not alone and (end < 0 or not data[end:].strip()):
        return False
    try:
        return isinstance(json.loads(data[begin : end if end >= 0 else len(data)]), kind)
    except (ValueError, RecursionError):
        return False


def json_lines(data: bytes, name: str, first: int = 1) -> Iterator[Record | BadRow]:
    """The records of lines, of which the first has this number in its file."""
    bad = damaged_lines(data, first) if b"\0" in data else {}
    for row, line in enumerate(lines_of(data), first):
        if not line or line.isspace():
            continue
        if len(line) > limits.LONGEST_ROW:
            yield overlong(name, row, line[:4000].decode("utf-8", "replace"))
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"not valid UTF-8: byte 0x{line[error.start]:02X} at place {error.start + 1} of the line"
            yield BadRow(name, row, reason, line.decode("utf-8", "replace"))
            continue
        try:
            value = _DECODER.decode(text)
        except RecursionError:
            yield BadRow(name, row, _TOO_DEEP, text)
        except ValueError as error:
            yield BadRow(name, row, bad.get(row) or f"not valid JSON: {_json_error(error)}", text)
        else:
            yield _checked(name, row, value, text, bool(_HALF.search(text)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ. Python would keep the last value of a key that stands twice, in silence."""
    value = dict(pairs)
    if len(value) < len(pairs):
        doubled = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {doubled!r} stands twice in one object")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _json_error(error: ValueError) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _checked(name: str, row: int, value: Any, text: str, suspicious: bool) -> Record | BadRow:
    """A record, if it is an object whose text can be written again."""
    if not isinstance(value, dict):
        return BadRow(name, row, f"not an object: {type(value).__name__} where {{key: value}} belongs", text)
    if text.count("[") + text.count("{") > _DEEPEST and _too_deep(value):
        return BadRow(name, row, _TOO_DEEP, text)
    if suspicious and has_half(value):
        return BadRow(name, row, "not valid Unicode: half of a surrogate pair", text)
    return Record(row, value)


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        nested = [item for item in level if isinstance(item, (dict, list))]
        level = [inner for item in nested for inner in (item.values() if isinstance(item, dict) else item)]
    return any(isinstance(item, (dict, list)) for item in level)


def _json(data: bytes, name: str) -> Iterator[Record | BadRow]:
    text, bad = decoded(data)
    if text.lstrip().startswith("["):
        yield from _array(text, bad, name)
        return
    expected = "an array of objects, an object of arrays, or JSONL"
    remedy = "mend the file at this place, or write it again; rows that stand one a line belong into a .jsonl file"
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=name, expected=expected, remedy=remedy) from error
    if bad:
        raise DataError(next(iter(bad.values())), where=name, expected="UTF-8", remedy="save the file as UTF-8")
    if not isinstance(value, dict) or _too_deep(value):
        found = (
            _TOO_DEEP if isinstance(value, dict) else f"the file is one value of JSON ({type(value).__name__}), no rows"
        )
        raise DataError(found, where=name, expected=expected, remedy=remedy)
    columns = _columns(value, name)
    for row, item in enumerate([value] if columns is None else columns, 1):
        yield _checked(name, row, item, json.dumps(item, ensure_ascii=True), bool(_HALF.search(text)))


def _columns(value: Mapping[str, Any], name: str) -> list[dict[str, Any]] | None:
    """The rows of an object of arrays; None for an object that is a record itself (its lists hold objects)."""
    arrays = [item for item in value.values() if isinstance(item, list)]
    if not arrays or len(arrays) != len(value) or any(isinstance(cell, dict) for item in arrays for cell in item[:1]):
        return None
    if len({len(item) for item in arrays}) > 1:
        lengths = ", ".join(f"{key} has {len(item)}" for key, item in value.items())
        raise DataError(
            f"the columns differ in length: {lengths}",
            where=name,
            expected="as many cells in each column",
            remedy="write the file again; a cell that is empty is null, not absent",
        )
    return [dict(zip(value, cells, strict=True)) for cells in zip(*arrays, strict=True)]


def _array(text: str, bad: Mapping[int, str], name: str) -> Iterator[Record | BadRow]:
    """The elements of an array one by one, so that what stands before a damaged place is kept."""
    suspicious = bool(bad) or bool(_HALF.search(text))
    place = text.index("[") + 1
    row, line, counted = 0, 1, 0
    while True:
        place = _end(text, place)
        if text[place : place + 1] == "]":
            if text[place + 1 :].strip():
                yield BadRow(name, row + 1, "not valid JSON: text after the array's end", readable(text[place + 1 :]))
            return
        row += 1
        try:
            value, end = _DECODER.raw_decode(text, place)
            after = _end(text, end)
            if text[after : after + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, after)
        except (ValueError, RecursionError) as error:
            reason = f"not valid JSON: {error}; the {len(text) - place} characters from here on cannot be read"
            yield BadRow(name, row, reason, readable(text[place:]))
            return
        if bad:
            start = line + text.count("\n", counted, place)
            line, counted = start + text.count("\n", place, end), end
            damage = next((bad[number] for number in range(start, line + 1) if number in bad), None)
            if damage and has_half(value):
                yield BadRow(name, row, damage, readable(text[place:end]))
                place = after + (text[after] == ",")
                continue
        yield _checked(name, row, value, readable(text[place:end]), suspicious)
        place = after + (text[after] == ",")


def _end(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()


def _text(data: bytes, name: str) -> Iterator[Record | BadRow]:
    if len(data) > limits.LONGEST_ROW:
        yield overlong(name, 1, data[:4000].decode("utf-8", "replace"))
        return
    text, bad = decoded(data)
    if bad:
        yield BadRow(name, 1, next(iter(bad.values())), readable(text))
    else:
        yield Record(1, {"text": text})
