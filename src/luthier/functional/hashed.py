"""Texts as hashed counts of words and pairs of words: features that need no model and no vocabulary.

A word is a run of letters and digits or one other mark, case ignored. Hashes are CRC-32, equal on every machine.
Source: Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning (signs keep inner products unbiased).
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["hashed_vectors", "ngram_buckets", "words_and_marks"]

_WORD = re.compile(r"\w+|[^\w\s]")


def words_and_marks(text: str) -> list[str]:
    """The words and punctuation marks of a text, in order, case ignored."""
    return _WORD.findall(text.casefold())


def ngram_buckets(text: str, buckets: int) -> NDArray[np.int64]:
    """The bucket, 0 to buckets - 1, of each word and each pair of successive words."""
    found: list[int] = []
    before: int | None = None
    for word in words_and_marks(text):
        encoded = word.encode("utf-8", "surrogatepass")
        own = zlib.crc32(encoded)
        found.append(own % buckets)
        if before is not None:
            found.append(zlib.crc32(encoded, before) % buckets)
        before = zlib.crc32(b" ", own)
    return np.array(found, np.int64)


def hashed_vectors(texts: Iterable[str], count: int, width: int = 1024) -> NDArray[np.float32]:
    """[count, width] of unit length: log counts of words, those of few texts weighted up; no word, a vector of zeros.

    A column's weight is the log of the share of texts without anything in it, as inverse document frequency is.
    """
    vectors = np.zeros((count, width), np.float32)
    for number, text in enumerate(texts):
        for word, times in Counter(words_and_marks(text)).items():
            hashed = zlib.crc32(word.encode("utf-8", "surrogatepass"))
            sign = 1 if hashed & 0x80000000 else -1
            vectors[number, hashed % width] += sign * (1 + np.log(times))
    rarity = np.log((1 + count) / (1 + np.count_nonzero(vectors, axis=0))) + 1
    vectors *= rarity.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return vectors
