"""From a file's bytes to its records: the kind is told by content first, then by name; damage is set aside row by row.

JSONL, JSON (an array, an object of arrays, or one object), CSV, TSV, Parquet and text, each also as gzip, xz or zstd.
A record's row is its line in JSONL, CSV and TSV (where it starts), its place in JSON and Parquet, 1 in text.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import DataError

__all__ = ["BadRow", "Record", "data_suffix", "records"]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read: where it is, why, and its raw text."""

    file: str
    row: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.row}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Record:
    """A row as its file holds it, before any format has looked at it."""

    row: int
    value: Mapping[str, Any]


_KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}
_COMPRESSED = (".gz", ".xz", ".zst")
_SPACE = re.compile(r"\s*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def data_suffix(name: str) -> str | None:
    """The suffix that tells what a data file holds, without that of a compression; None for no data file."""
    lower = name.lower()
    for compressed in _COMPRESSED:
        lower = lower.removesuffix(compressed)
    return next((suffix for suffix in _KINDS if lower.endswith(suffix)), None)


def records(data: bytes, name: str) -> Iterator[Record | BadRow]:
    """The records of a file with these bytes; `name` tells the kind where the bytes do not, and stands in messages.

    Errors: DataError where the whole file cannot be read: cut compression, UTF-16, an unknown kind, nothing in it.
    """
    data = _decompressed(data, name)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError("the file is UTF-16", where=name, expected="UTF-8", remedy="save it as UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    kind = _kind(data, name)
    if kind == "parquet":
        return _parquet(data, name)
    if not data.strip():
        raise DataError("the file is empty", where=name, expected="at least one row")
    if kind == "jsonl":
        return _jsonl(data, name)
    if kind == "json":
        return _json(data, name)
    if kind == "text":
        return _text(data, name)
    return _table(data, name, tabs=kind == "tsv")


def _decompressed(data: bytes, name: str) -> bytes:
    try:
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"\xfd7zXZ\x00"):
            return lzma.decompress(data)
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            return _zstd(data)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"the compressed file is damaged or cut short: {error}",
            where=name,
            remedy="fetch or write the file again",
        ) from error
    return data


def _zstd(data: bytes) -> bytes:
    """Every frame, each to its end: the package's stream reader gives what it has of a cut frame, in silence."""
    import zstandard

    pieces: list[bytes] = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            pieces.append(frame.decompress(data))
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        if not frame.eof:
            raise EOFError("the last frame has no end")
        data = frame.unused_data
    return b"".join(pieces)


def _kind(data: bytes, name: str) -> str:
    suffix = data_suffix(name)
    kind = _KINDS[suffix] if suffix else None
    if data.startswith(b"PAR1"):
        return "parquet"
    if kind == "parquet":
        raise DataError("the file is named .parquet and is none", where=name, expected="bytes that start with PAR1")
    head = data[:4096].lstrip()
    if kind in ("json", "jsonl", None):
        if head.startswith(b"["):
            return "json"
        if head.startswith(b"{"):
            return "jsonl" if kind == "jsonl" or _starts_as_lines(data) else "json"
    elif head.startswith(b"{") and _starts_as_lines(data, alone=True):
        return "jsonl"
    if kind is not None:
        return kind
    raise DataError(
        "what the file holds can be told neither by its name nor by its content",
        where=name,
        expected="JSONL, JSON, CSV, TSV, Parquet or text (.txt, .md), also as .gz, .xz or .zst",
        remedy="give the file its usual ending",
    )


def _starts_as_lines(data: bytes, alone: bool = False) -> bool:
    """Whether the first line is an object of its own, with more lines after it (or `alone`)."""
    first, _, rest = data.lstrip().partition(b"\n")
    if not alone and not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _jsonl(data: bytes, name: str) -> Iterator[Record | BadRow]:
    for row, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        text = line.decode("utf-8", "replace")
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield BadRow(
                name,
                row,
                f"not valid UTF-8: byte 0x{line[error.start]:02X} at place {error.start + 1} of the line",
                text,
            )
        except RecursionError:
            yield BadRow(name, row, "not valid JSON: nested too deeply", text)
        except ValueError as error:
            yield BadRow(name, row, f"not valid JSON: {_json_error(error)}", text)
        else:
            yield _checked(name, row, value, text, bool(_HALF.search(text)))


def _json_error(error: ValueError) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _checked(name: str, row: int, value: Any, text: str, suspicious: bool) -> Record | BadRow:
    """A record, if it is an object whose text can be written again."""
    if not isinstance(value, dict):
        return BadRow(name, row, f"not an object: {type(value).__name__} where {{key: value}} belongs", text)
    if suspicious and _has_half(value):
        return BadRow(name, row, "not valid Unicode: half of a surrogate pair", text)
    return Record(row, value)


def _has_half(value: Any) -> bool:
    if isinstance(value, str):
        return bool(_SURROGATE.search(value))
    if isinstance(value, dict):
        return any(_has_half(key) or _has_half(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_half(item) for item in value)


def _bad_bytes(data: bytes) -> dict[int, str]:
    """For each line with bytes that are no UTF-8: what and where the first is."""
    found: dict[int, str] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            found[number] = (
                f"not valid UTF-8: byte 0x{line[error.start]:02X} at place {error.start + 1} of line {number}"
            )
    return found


def _decoded(data: bytes) -> tuple[str, dict[int, str]]:
    """The text, undecodable bytes as lone surrogates, and the lines that hold them."""
    try:
        return data.decode("utf-8"), {}
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape"), _bad_bytes(data)


def _readable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if _SURROGATE.search(text) else text


def _json(data: bytes, name: str) -> Iterator[Record | BadRow]:
    text, bad = _decoded(data)
    if text.lstrip().startswith("["):
        yield from _array(text, bad, name)
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"not valid JSON: {error}", where=name, expected="an array of objects, an object of arrays, or JSONL"
        ) from error
    if bad:
        raise DataError(next(iter(bad.values())), where=name, expected="UTF-8", remedy="save the file as UTF-8")
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
        raise DataError(f"the columns differ in length: {lengths}", where=name, expected="as many cells in each column")
    return [dict(zip(value, cells, strict=True)) for cells in zip(*arrays, strict=True)]


def _array(text: str, bad: Mapping[int, str], name: str) -> Iterator[Record | BadRow]:
    """The elements of an array one by one, so that what stands before a damaged place is kept."""
    decoder = json.JSONDecoder()
    suspicious = bool(bad) or bool(_HALF.search(text))
    place = text.index("[") + 1
    row, line, counted = 0, 1, 0
    while True:
        place = _end(text, place)
        if text[place : place + 1] == "]":
            if text[place + 1 :].strip():
                yield BadRow(name, row + 1, "not valid JSON: text after the array's end", _readable(text[place + 1 :]))
            return
        row += 1
        try:
            value, end = decoder.raw_decode(text, place)
            after = _end(text, end)
            if text[after : after + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, after)
        except (ValueError, RecursionError) as error:
            reason = f"not valid JSON: {error}; the {len(text) - place} characters from here on cannot be read"
            yield BadRow(name, row, reason, _readable(text[place:]))
            return
        if bad:
            start = line + text.count("\n", counted, place)
            line, counted = start + text.count("\n", place, end), end
            damage = next((bad[number] for number in range(start, line + 1) if number in bad), None)
            if damage and _has_half(value):
                yield BadRow(name, row, damage, _readable(text[place:end]))
                place = after + (text[after] == ",")
                continue
        yield _checked(name, row, value, _readable(text[place:end]), suspicious)
        place = after + (text[after] == ",")


def _end(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()


def _table(data: bytes, name: str, tabs: bool) -> Iterator[Record | BadRow]:
    text, bad = _decoded(data)
    delimiter = "\t" if tabs else _delimiter(text)
    before = csv.field_size_limit(sys.maxsize if sys.maxsize <= 2**31 - 1 else 2**31 - 1)
    try:
        rows = list(_cells(text, delimiter))
    finally:
        csv.field_size_limit(before)
    header_row, _, header, error = rows[0]
    if error or header_row in bad:
        raise DataError(error or bad[header_row], where=f"{name}:{header_row}", expected="a first line of column names")
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise DataError(f"columns come twice: {', '.join(doubled)}", where=name, expected="a name of its own for each")
    for start, end, cells, error in rows[1:]:
        raw = _readable(delimiter.join(cells))
        damage = next((bad[line] for line in range(start, end + 1) if line in bad), None) if bad else None
        if error or damage:
            yield BadRow(name, start, error or damage or "", raw)
        elif len(cells) != len(header):
            yield BadRow(name, start, f"wrong number of cells: {len(cells)} where the header has {len(header)}", raw)
        else:
            yield Record(start, dict(zip(header, cells, strict=True)))


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, int, list[str], str]]:
    """(first line, last line, cells, what is wrong) of each row that is not blank."""
    lines = io.StringIO(text, newline="")
    kept: list[str] = []

    def keep() -> Iterator[str]:
        for line in lines:
            kept.append(line)
            yield line

    reader = csv.reader(keep(), delimiter=delimiter, strict=True)
    line = 0
    while True:
        kept.clear()
        start = line + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line += len(kept)
            lines_lost = f"; lines {start} to {line} cannot be read" if line > start else ""
            yield start, line, ["".join(kept)], f"damaged quoting: {error}{lines_lost}"
            continue
        line += len(kept)
        if cells:
            yield start, line, cells, ""


def _delimiter(text: str) -> str:
    """The separator that the header line has most often outside quotes."""
    header = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
    return max(",;\t|", key=header.count)


def _text(data: bytes, name: str) -> Iterator[Record | BadRow]:
    text, bad = _decoded(data)
    if bad:
        yield BadRow(name, 1, next(iter(bad.values())), _readable(text))
    else:
        yield Record(1, {"text": text})


def _parquet(data: bytes, name: str) -> Iterator[Record | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"the Parquet file is damaged: {error}", where=name, remedy="fetch or write the file again"
        ) from error
    row = 0
    for batch in table.to_batches():
        for value in batch.to_pylist():
            row += 1
            yield Record(row, value)
