"""The longest run of words in a text that stands, word for word, in the training text.

Case and punctuation are set aside, which finds more, not fewer. The training text becomes one array of word numbers;
of the places where four words in a row have the same hash as four of a query, each is followed as far as it goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Run", "TrainingWords", "words_of"]

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BREAK, _UNKNOWN = -1, -2
"""Between training documents, and in queries: neither equals any word, nor each other."""
_SEED = 4
"""Words that must agree before a place is followed; shorter runs are looked up by their hashes alone."""
_FACTORS = np.random.default_rng(0).integers(1, 2**63, size=_SEED, dtype=np.uint64) | np.uint64(1)


def words_of(text: str) -> list[str]:
    """The text's words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, slots=True)
class Run:
    """Words in a row that the training text holds too: how many, and which."""

    length: int
    words: str


class TrainingWords:
    """The words of training documents as numbers, to look runs up in."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._known: dict[str, int] = {}
        parts = []
        for document in documents:
            numbers = [self._known.setdefault(word, len(self._known)) for word in words_of(document)]
            parts.append(np.array([*numbers, _BREAK], dtype=np.int32))
        self._words: NDArray[np.int32] = np.concatenate([*parts, np.full(1, _BREAK, dtype=np.int32)])

    def longest(self, texts: Sequence[str]) -> list[Run]:
        """The longest run of each text, the first of several; none: length 0."""
        asked = [words_of(text) for text in texts]
        numbers = [[*(self._known.get(word, _UNKNOWN) for word in words), _UNKNOWN] for words in asked]
        flat = np.array([number for some in numbers for number in some], dtype=np.int32)
        lengths = self._lengths(flat) if len(flat) else np.zeros(0, dtype=np.int64)
        found, begin = [], 0
        for words in asked:
            here = lengths[begin : begin + len(words)]
            at = int(here.argmax()) if len(here) else 0
            length = int(here[at]) if len(here) else 0
            found.append(Run(length, " ".join(words[at : at + length])))
            begin += len(words) + 1
        return found

    def _lengths(self, query: NDArray[np.int32]) -> Ints:
        """[q] how many words from each place of the query on stand in the training text in a row."""
        lengths = np.zeros(len(query), dtype=np.int64)
        for size in range(1, _SEED):
            codes = _grams(query, size)
            _, hashes = self._places(codes, size)
            lengths[: len(codes)][np.isin(codes, hashes)] = size
        codes = _grams(query, _SEED)
        places, hashes = self._places(codes, _SEED)
        order = np.argsort(hashes, kind="stable")
        places, hashes = places[order], hashes[order]
        low, high = (np.searchsorted(hashes, codes, side=side) for side in ("left", "right"))
        counts = high - low
        asked = np.repeat(np.arange(len(codes)), counts)
        known = places[np.repeat(low - (counts.cumsum() - counts), counts) + np.arange(counts.sum())]
        reached = self._follow(query, asked, known)
        np.maximum.at(lengths, asked, reached)
        return lengths

    def _places(self, codes: Hashes, size: int) -> tuple[Ints, Hashes]:
        """Where the training text has one of these hashes, and which."""
        wanted = np.unique(codes)
        every = _grams(self._words, size)
        if not len(wanted):
            return np.zeros(0, dtype=np.int64), wanted
        at = np.minimum(np.searchsorted(wanted, every), len(wanted) - 1)
        places = np.flatnonzero(wanted[at] == every)
        return places, every[places]

    def _follow(self, query: NDArray[np.int32], asked: Ints, known: Ints) -> Ints:
        """[pairs] how many words agree from these places on: both texts end in what equals nothing."""
        reached = np.zeros(len(asked), dtype=np.int64)
        alive = np.arange(len(asked))
        step = 0
        while len(alive):
            alike = query[asked[alive] + step] == self._words[known[alive] + step]
            alive = alive[alike]
            step += 1
            reached[alive] = step
        return reached


def _grams(words: NDArray[np.int32], size: int) -> Hashes:
    """[n - size + 1] hashes of `size` words in a row."""
    count = max(0, len(words) - size + 1)
    found = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        found += words[offset : offset + count].astype(np.int64).astype(np.uint64) * _FACTORS[offset]
    return found
