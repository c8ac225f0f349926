"""Near duplicates of texts: word shingles, MinHash signatures, banded candidates, exact verification, clusters.

Broder, "On the resemblance and containment of documents", 1997; banding after Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", section 3.4. Hashes are our own 64-bit ones, equal on every machine and in every process.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Pair",
    "Shingles",
    "bands_for",
    "candidates",
    "clusters",
    "jaccard",
    "shingles",
    "signatures",
    "similar_pairs",
]

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

_WORD = re.compile(r"\w+|[^\w\s]")
_SEED = 0x9E3779B97F4A7C15
_RECALL = 0.99
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Shingles:
    """The hashed shingles of n texts, end to end: text i owns hashes[starts[i]:starts[i + 1]], sorted and distinct.

    hashes: [N] uint64; starts: [n + 1] int64. A text without a word owns none.
    """

    hashes: Words
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, index: int) -> Words:
        """The hashes of the text numbered `index`."""
        return self.hashes[self.starts[index] : self.starts[index + 1]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts (first < second) and the Jaccard similarity of their shingle sets."""

    first: int
    second: int
    similarity: float


def shingles(texts: Sequence[str], size: int) -> Shingles:
    """Sets of `size` successive words (a punctuation mark is a word; case is ignored) of each text, hashed to 64 bits.

    A text shorter than `size` words has one shingle, the whole of it.
    """
    known: dict[str, int] = {}
    ids: list[int] = []
    lengths: list[int] = []
    for text in texts:
        words = _WORD.findall(text.casefold())
        lengths.append(len(words))
        ids.extend([known.setdefault(word, len(known)) for word in words])
    hashed = np.fromiter((_hash(word) for word in known), np.uint64, len(known))
    words_of = hashed[np.asarray(ids, np.int64)] if ids else np.empty(0, np.uint64)
    count = np.asarray(lengths, np.int64)
    ends = np.cumsum(count)
    document = np.repeat(np.arange(len(texts)), count)
    left = np.repeat(ends, count) - np.arange(len(words_of))  # words from here to the text's end, this one included
    first = np.arange(len(words_of)) == np.repeat(ends - count, count)
    mixed = np.zeros(len(words_of), np.uint64)
    for offset in range(size):
        following = np.zeros(len(words_of), np.uint64)
        following[: max(len(words_of) - offset, 0)] = words_of[offset:]
        following[left <= offset] = 0
        mixed = _mix(mixed * np.uint64(0xBF58476D1CE4E5B9) + following)
    keep = (left >= size) | (first & (left < size))
    return _distinct(mixed[keep], document[keep], len(texts))


def _distinct(hashes: Words, document: Ints, count: int) -> Shingles:
    order = np.lexsort((hashes, document))
    hashes, document = hashes[order], document[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (document[1:] != document[:-1])
    sizes = np.bincount(document[new], minlength=count)
    return Shingles(hashes[new], np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def jaccard(first: Words, second: Words) -> float:
    """|A and B| / |A or B| of two sets given as arrays of distinct hashes; two empty sets are 0 alike."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - shared
    return shared / union if union else 0.0


def signatures(sets: Shingles, permutations: int, seed: int = 1) -> NDArray[np.uint32]:
    """[n, permutations] minima under as many hash functions; two rows agree in a place with probability = similarity.

    Multiply-shift hashing (Dietzfelbinger et al., 1997) of the already mixed hashes. Empty sets give the largest value.
    """
    random = np.random.default_rng([seed, permutations])
    factors = random.integers(0, 1 << 63, permutations, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shifts = random.integers(0, 1 << 63, permutations, dtype=np.uint64)
    result = np.full((permutations, len(sets)), np.uint32(0xFFFFFFFF), np.uint32)
    filled = np.flatnonzero(np.diff(sets.starts))
    if len(filled):
        offsets = sets.starts[filled]
        for number in range(permutations):
            permuted = ((sets.hashes * factors[number] + shifts[number]) >> np.uint64(32)).astype(np.uint32)
            result[number, filled] = np.minimum.reduceat(permuted, offsets)
    return np.ascontiguousarray(result.T)


def bands_for(threshold: float, permutations: int) -> tuple[int, int]:
    """(bands, rows): the longest rows with which a pair exactly at `threshold` is found with probability >= 0.99.

    bands * rows <= permutations. 1 - (1 - threshold ** rows) ** bands is the chance of sharing a band.
    """
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL:
            return bands, rows
    return permutations, 1


def candidates(signature: NDArray[np.uint32], threshold: float) -> Iterator[NDArray[np.int64]]:
    """Pairs [m, 2] (first < second) that agree in a whole band, in chunks; a pair may come again in another band."""
    count, permutations = signature.shape
    bands, rows = bands_for(threshold, permutations)
    for band in range(bands):
        columns = np.ascontiguousarray(signature[:, band * rows : (band + 1) * rows])
        keys = columns.view(np.dtype((np.void, columns.dtype.itemsize * rows))).ravel()
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
        edges = np.flatnonzero(np.concatenate([[True], ~same, [True]])) if count else np.zeros(1, np.int64)
        for start, end in itertools.pairwise(edges.tolist()):
            if end - start > 1:
                yield from _all_pairs(np.sort(order[start:end]))


def _all_pairs(members: Ints) -> Iterator[Ints]:
    """Every pair of a bucket, in chunks so that a bucket of thousands does not fill the memory."""
    per_chunk = max(_CHUNK // len(members), 1)
    for begin in range(0, len(members), per_chunk):
        left = np.arange(begin, min(begin + per_chunk, len(members)))
        rows, columns = np.nonzero(left[:, None] < np.arange(len(members))[None, :])
        yield np.stack([members[left[rows]], members[columns]], axis=1)


def similar_pairs(
    texts: Sequence[str],
    threshold: float,
    *,
    size: int,
    permutations: int,
    seed: int = 1,
    wanted: Callable[[Ints, Ints], NDArray[np.bool_]] | None = None,
) -> list[Pair]:
    """Pairs of texts whose shingle sets are at least `threshold` alike, each verified on the sets themselves.

    Pairs come sorted. `wanted(firsts, seconds)` leaves out pairs that do not matter before they are verified.
    A pair at the threshold is missed with probability below 1.1 %, one well above it almost never.
    """
    sets = shingles(texts, size)
    signature = signatures(sets, permutations, seed)
    sizes = np.diff(sets.starts)
    # Four standard deviations below the threshold: what the estimate rejects would not have been verified.
    floor = threshold - 4 * np.sqrt(threshold * (1 - threshold) / permutations)
    chosen: list[Ints] = []
    for pairs in candidates(signature, threshold):
        pairs = pairs[(sizes[pairs[:, 0]] > 0) & (sizes[pairs[:, 1]] > 0)]
        if wanted is not None and len(pairs):
            pairs = pairs[wanted(pairs[:, 0], pairs[:, 1])]
        if len(pairs):
            agree = _agreement(signature, pairs)
            chosen.append(pairs[agree >= floor])
    if not chosen:
        return []
    found: list[Pair] = []
    cache: dict[int, frozenset[int]] = {}
    for first, second in np.unique(np.concatenate(chosen), axis=0).tolist():
        for index in (first, second):
            if index not in cache:
                cache[index] = frozenset(sets.of(index).tolist())
        shared = len(cache[first] & cache[second])
        similarity = shared / (len(cache[first]) + len(cache[second]) - shared)
        if similarity >= threshold:
            found.append(Pair(first, second, similarity))
    return found


def _agreement(signature: NDArray[np.uint32], pairs: Ints) -> NDArray[np.float64]:
    """[m] share of signature places in which the two of a pair agree."""
    result = np.empty(len(pairs))
    step = max(_CHUNK * 16 // signature.shape[1], 1)
    for begin in range(0, len(pairs), step):
        part = pairs[begin : begin + step]
        result[begin : begin + step] = (signature[part[:, 0]] == signature[part[:, 1]]).mean(axis=1)
    return result


def clusters(count: int, pairs: Sequence[Pair]) -> list[int]:
    """[count] the smallest index of each element's cluster, by union-find: the first of a cluster is its survivor."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for pair in pairs:
        first, second = root(pair.first), root(pair.second)
        if first != second:
            parent[max(first, second)] = min(first, second)
    return [root(index) for index in range(count)]


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _mix(value: Words) -> Words:
    """SplitMix64's finalizer (Steele, Lea and Flood, 2014): every input bit reaches every output bit."""
    value = value + np.uint64(_SEED)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
