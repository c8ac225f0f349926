"""The words of many texts as 64-bit hashes, without a Python object for each word.

A word is a run of letters, digits and underscores, or a single other mark; case is ignored (str.casefold). Its hash is
the polynomial of its UTF-8 bytes with one odd base, modulo 2**64, mixed by the caller: equal on every machine and in
every process. Texts in ASCII are worked on as one array of bytes; others by a regular expression, with equal results.
Polynomial hashing: Karp and Rabin 1987.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["word_hashes"]

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

_BASE = 0x9FB21C651E98DF25
_ALL = (1 << 64) - 1
_INVERSE = pow(_BASE, -1, 1 << 64)
_KEPT = 1 << 19
"""Powers that are kept: some megabytes, more characters than are usually worked on at once."""
_WORD = re.compile(r"\w+|[^\w\s]")
_KNOWN = 1 << 18
"""Words outside ASCII whose hashes are remembered."""
_MARK, _SPACE, _LETTER = 0, 1, 2
_CLASSES = bytes(
    _LETTER if re.match(r"\w", chr(code)) else _SPACE if chr(code).isspace() else _MARK for code in range(256)
)
_WITHOUT_SPACE = bytes(0 if chr(code).isspace() else code for code in range(256))
"""Tables for bytes.translate, which is several times faster than indexing an array by them; only ASCII is looked up."""


class _Polynomials(dict[str, int]):
    """The hash of each word, remembered."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _KNOWN:
            self.clear()
        value = 0
        for byte in reversed(word.encode("utf-8", "surrogatepass")):
            value = (value * _BASE + byte) & _ALL
        self[word] = value
        return value


_known = _Polynomials()


def word_hashes(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """The hashes of all words of all texts, end to end, and how many each text has."""
    if all(text.isascii() for text in texts):
        return _of_ascii(texts)
    counts = np.zeros(len(texts), np.int64)
    parts: list[Hashes] = []
    begin = 0
    for number, text in enumerate(texts):
        if text.isascii():
            continue
        parts += _placed(texts, begin, number, counts)
        found = _WORD.findall(text.casefold())
        counts[number] = len(found)
        parts.append(np.fromiter(map(_known.__getitem__, found), np.uint64, len(found)))
        begin = number + 1
    parts += _placed(texts, begin, len(texts), counts)
    return np.concatenate(parts), counts


def _placed(texts: Sequence[str], begin: int, end: int, counts: Ints) -> list[Hashes]:
    """The hashes of a run of texts in ASCII; its counts are put where they belong."""
    if begin == end:
        return []
    hashes, counts[begin:end] = _of_ascii(texts[begin:end])
    return [hashes]


def _of_ascii(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    joined = "\n".join(texts).lower().encode("ascii")
    classes = np.frombuffer(joined.translate(_CLASSES), np.uint8)
    letter = classes == _LETTER
    begins = classes != _SPACE
    begins[1:] &= ~(letter[1:] & letter[:-1])  # a letter after a letter goes on with its word
    starts = np.flatnonzero(begins)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    borders = np.concatenate([[0], np.cumsum(lengths + 1)])
    counts = np.diff(np.searchsorted(starts, borders))
    if not len(starts):
        return np.zeros(0, np.uint64), counts
    # Spaces count nothing, so a word may reach to the next one's start.
    first = int(starts[0])
    codes = np.frombuffer(joined.translate(_WITHOUT_SPACE), np.uint8)[first:]
    starts = starts - first
    # Powers of the place in the chunk need no place in the word; each word is then divided by that of its start.
    powers, inverses = _powers(len(codes))
    hashes: Hashes = np.add.reduceat(codes * powers, starts)
    hashes *= inverses[starts]
    return hashes, counts


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The first powers of the base and of its inverse, from the zeroth on."""
    if count > _KEPT:
        return _power(_BASE, count), _power(_INVERSE, count)
    powers, inverses = _tables()
    return powers[:count], inverses[:count]


@cache
def _tables() -> tuple[Hashes, Hashes]:
    return _power(_BASE, _KEPT), _power(_INVERSE, _KEPT)


def _power(base: int, count: int) -> Hashes:
    found = np.ones(count, np.uint64)
    np.multiply.accumulate(np.full(count - 1, base, np.uint64), out=found[1:])
    return found
