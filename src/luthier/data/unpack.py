"""From the bytes on disk to the bytes of the data: compression with a limit, and files that are something else.

A few bytes can be made to unpack to terabytes. What a file unpacks to is therefore limited: 64 MiB are always allowed,
above that 200 times the packed size, and never more than the free memory.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import DataError, MachineError
from ..core.files import file_aside

__all__ = ["most_bytes", "refuse_beyond_memory", "refuse_foreign", "unpack_file", "unpacked"]

ALWAYS = 64 * 2**20  # bytes
TIMES = 200  # text packs 3 to 30 times, tables of few values up to 100 times

_BLOCK = 4096  # packed bytes at once: even of these zstd can make 128 MiB
_DICTIONARY = 2**28  # bytes of memory for the dictionary of xz
_FOREIGN = (
    (rb"PK\x03\x04", "a ZIP archive (an Excel workbook is one too)", "unpack it, or save its table as CSV"),
    (rb"BZh[1-9]1AY&SY", "packed with bzip2", "unpack it with bunzip2, and pack it with gzip, xz or zstd if at all"),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a", "an archive", "unpack it and name the data file in it"),
    (rb".{257}ustar", "a tar archive", "unpack it and name the data file or its folder"),
    (rb"%PDF-", "a PDF document", "extract its text into a text file first"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", "save its table as CSV in UTF-8"),
    (rb"ARROW1\0\0|FEA1|Obj\x01", "an Arrow or Avro file", "write it as Parquet"),
    (rb"SQLite format 3\0", "an SQLite data base", "write its table as CSV or JSONL"),
    (rb"\x80[\x02-\x05][\x95}\](ccX]", "a pickle, which can run code when it is read", "write it as JSONL or Parquet"),
    (rb"version https://git-lfs", "a pointer of Git LFS in place of the data", "git lfs pull fetches the data itself"),
)


class _TooLargeError(Exception):
    """More came out than may."""


def most_bytes(packed: int) -> int:
    """How many bytes a packed file of so many may unpack to."""
    return max(ALWAYS, TIMES * packed)


def unpacked(data: bytes, name: str) -> bytes:
    """The bytes of the data, unpacked where they begin as gzip, xz or zstd do.

    Errors: DataError for what is damaged, cut short, packed twice, or unpacks to more than its size allows.
    """
    start = _stream_of(data)
    if start is None:
        return data
    blocks = (data[begin : begin + _BLOCK] for begin in range(0, len(data), _BLOCK))
    result = b"".join(_told(blocks, start, len(data), name))
    _refuse_twofold(result, name)
    return result


def unpack_file(path: Path, target: Path, name: str) -> bool:
    """Writes to `target` what a packed file holds, a block at a time; False where the file is not packed.

    Errors: as `unpacked`; MachineError where the disk has no room.
    """
    with path.open("rb") as packed:
        start = _stream_of(packed.read(8))
        if start is None:
            return False
        packed.seek(0)
        with file_aside(target) as aside:
            with aside.open("wb") as result:
                for piece in _told(iter(lambda: packed.read(_BLOCK), b""), start, path.stat().st_size, name):
                    result.write(piece)
            with aside.open("rb") as result:
                _refuse_twofold(result.read(8), name)
    return True


def _told(blocks: Iterator[bytes], start: Callable[[], Any], size: int, name: str) -> Iterator[bytes]:
    """What a packed file of so many bytes holds, piece by piece, with what goes wrong told for the user."""
    most = most_bytes(size)
    try:
        yield from _unpacked(blocks, start, most)
    except _TooLargeError as error:
        raise DataError(
            f"the packed file of {size:,} bytes unpacks to more than {most:,} bytes",
            where=name,
            expected=f"at most {TIMES} times its size: what packs better than any text is made to fill memory",
            remedy="where you trust it, unpack it yourself and name the unpacked file",
        ) from error
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise DataError(
            f"the compressed file is damaged or cut short: {error}",
            where=name,
            expected="a whole gzip, xz or zstd file",
            remedy="fetch or write the file again",
        ) from error


def _refuse_twofold(data: bytes, name: str) -> None:
    if _stream_of(data) is not None:
        raise DataError(
            "the file is packed twice",
            where=name,
            expected="data that are packed once, or not at all",
            remedy="unpack it once and name the result",
        )


def _stream_of(data: bytes) -> Callable[[], Any] | None:
    """What makes a decompressor for these bytes, or None where they are not packed."""
    if data.startswith(b"\x1f\x8b"):
        return lambda: zlib.decompressobj(wbits=31)
    if data.startswith(b"\xfd7zXZ\x00"):
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _DICTIONARY)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return _Zstd
    return None


class _Zstd:
    """A zstd frame with the errors of the standard library.

    The package's stream reader would give what it has of a cut frame, in silence.
    """

    def __init__(self) -> None:
        import zstandard

        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._error = zstandard.ZstdError

    def decompress(self, block: bytes) -> bytes:
        try:
            return bytes(self._frame.decompress(block))
        except self._error as error:
            raise OSError(str(error)) from error

    @property
    def eof(self) -> bool:
        return bool(self._frame.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._frame.unused_data)


def _unpacked(blocks: Iterable[bytes], start: Callable[[], Any], most: int) -> Iterator[bytes]:
    """Every stream in turn, each to its end; between them zero bytes may stand."""
    total, stream = 0, None
    for block in blocks:
        while block:
            if stream is None:
                block = block.lstrip(b"\0")
                if not block:
                    break
                stream = start()
            piece = stream.decompress(block)
            total += len(piece)
            if total > most:
                raise _TooLargeError
            yield piece
            block = stream.unused_data if stream.eof else b""
            if stream.eof:
                stream = None
    if stream is not None:
        raise EOFError("it has no end")


def refuse_foreign(data: bytes, name: str) -> None:
    """Errors: DataError for what is told by its first bytes and is no data file, and for text that is not UTF-8."""
    for pattern, what, remedy in _FOREIGN:
        if re.match(pattern, data, re.DOTALL):
            raise DataError(
                f"the file is {what}", where=name, expected="JSONL, JSON, CSV, TSV, Parquet or text", remedy=remedy
            )
    width = _wide(data[:4096])
    if width:
        raise DataError(
            f"the file is {width}",
            where=name,
            expected="UTF-8",
            remedy=f"save it as UTF-8, for example with iconv -f {width} -t UTF-8",
        )
    if data.startswith(b"\0" * min(16, len(data))) and data.count(0) == len(data) > 0:
        raise DataError(
            "the file holds nothing but zero bytes",
            where=name,
            expected="rows",
            remedy="it was torn when it was written or fetched; do that again",
        )


def _wide(head: bytes) -> str | None:
    """UTF-32 or UTF-16 by the mark at its beginning, or UTF-16 by the zero bytes of its ASCII letters."""
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if head.startswith(b"PAR1"):
        return None
    zeros = [half.count(0) / max(1, len(half)) for half in (head[::2], head[1::2])]
    return "UTF-16" if max(zeros) > 0.3 and min(zeros) < 0.05 and len(head) > 3 else None


def refuse_beyond_memory(size: int, name: str) -> None:
    """Errors: MachineError where so many bytes do not even fit into the free memory once."""
    import psutil

    free = psutil.virtual_memory().available
    if size > free:
        raise MachineError(
            f"the file has {size:,} bytes, and {free:,} bytes of memory are free",
            where=name,
            expected="data that fit into memory",
            remedy="train on a part of it, cut it into files and name some of them, or use a machine with more memory",
        )
