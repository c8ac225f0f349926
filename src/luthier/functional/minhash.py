"""Near duplicates of texts: word shingles, MinHash signatures, banded candidates, exact verification, clusters.

Of each text a signature is kept (4 bytes a permutation); its shingles are made for as many texts at once as fit into a
processor's cache, and made again for the few texts that have to be verified.

Broder, "On the resemblance and containment of documents", 1997; banding after Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", section 3.4. Hashes are our own 64-bit ones, equal on every machine and in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .word_hashes import word_hashes

__all__ = [
    "Pair",
    "Shingles",
    "bands_for",
    "candidates",
    "clusters",
    "shingles",
    "signatures",
    "similar_pairs",
    "similarities",
    "text_similarities",
]

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Signatures = NDArray[np.uint32]

_SEED = 0x9E3779B97F4A7C15
_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_RECALL = 0.99
_CHUNK = 1 << 18
"""Pairs, characters of text or numbers that are worked on at once: some megabytes."""
_VERIFIED = 1 << 22
"""Characters of text that are verified at once."""


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
    bags = _bags(texts, size)
    return _distinct(bags.hashes, np.repeat(np.arange(len(texts)), np.diff(bags.starts)), len(texts))


def _bags(texts: Sequence[str], size: int) -> Shingles:
    """As `shingles`, but as they come: in the text's order, repeated ones too. Minima are the same, and sorting is
    a sixth of all work.
    """
    words_of, count = word_hashes(texts)
    words_of = _mix(words_of)
    ends = np.cumsum(count)
    document = np.repeat(np.arange(len(texts)), count)
    left = np.repeat(ends, count) - np.arange(len(words_of))  # words from here to the text's end, this one included
    first = np.arange(len(words_of)) == np.repeat(ends - count, count)
    mixed = np.zeros(len(words_of), np.uint64)
    for offset in range(size):
        following = np.zeros(len(words_of), np.uint64)
        following[: max(len(words_of) - offset, 0)] = words_of[offset:]
        following[left <= offset] = 0
        mixed = _mix(mixed * _FACTOR + following)
    keep = (left >= size) | (first & (left < size))
    sizes = np.bincount(document[keep], minlength=len(texts))
    return Shingles(mixed[keep], np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def _distinct(hashes: Words, document: Ints, count: int) -> Shingles:
    hashes, document = _sorted(hashes, document, count)
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (document[1:] != document[:-1])
    sizes = np.bincount(document[new], minlength=count)
    return Shingles(hashes[new], np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def _sorted(hashes: Words, owner: Ints, owners: int) -> tuple[Words, Ints]:
    """Both in the order of owner (0 to owners - 1) and hash."""
    by_hash = np.argsort(hashes)
    # A stable sort of 16-bit numbers is a radix sort: several times faster than lexsort of both.
    narrow = owner.astype(np.min_scalar_type(max(owners - 1, 0)))
    order = by_hash[np.argsort(narrow[by_hash], kind="stable")]
    return hashes[order], owner[order]


def similarities(sets: Shingles, pairs: Ints) -> NDArray[np.float64]:
    """[m] Jaccard similarity |A and B| / |A or B| of the sets numbered pairs [m, 2]; two empty sets are 0 alike."""
    sizes = np.diff(sets.starts)
    lengths = sizes[pairs].ravel()
    owner = np.repeat(np.arange(len(pairs)), lengths.reshape(-1, 2).sum(axis=1))
    before = np.cumsum(lengths) - lengths
    places = np.arange(len(owner)) + np.repeat(sets.starts[pairs].ravel() - before, lengths)
    hashes, owner = _sorted(sets.hashes[places], owner, len(pairs))
    twice = (hashes[1:] == hashes[:-1]) & (owner[1:] == owner[:-1])
    shared = np.bincount(owner[1:][twice], minlength=len(pairs))
    union = sizes[pairs].sum(axis=1) - shared
    result: NDArray[np.float64] = shared / np.maximum(union, 1)
    return result


def signatures(sets: Shingles, permutations: int, seed: int = 1) -> Signatures:
    """[n, permutations] minima under as many hash functions; two rows agree in a place with probability = similarity.

    Multiply-shift hashing (Dietzfelbinger et al., 1997) of the upper halves of the already mixed hashes: 32 bits take
    half the time of 64, and two shingles of one text are the same with a chance of one in four billion. Empty sets give
    the largest value.
    """
    random = np.random.default_rng([seed, permutations])
    factors = random.integers(0, 1 << 31, permutations, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = random.integers(0, 1 << 32, permutations, dtype=np.uint32)
    result = np.full((len(sets), permutations), np.uint32(0xFFFFFFFF), np.uint32)
    filled = np.flatnonzero(np.diff(sets.starts))
    if len(filled):
        offsets = sets.starts[filled]
        halves = (sets.hashes >> np.uint64(32)).astype(np.uint32)
        permuted = np.empty_like(halves)
        least = np.empty((permutations, len(filled)), np.uint32)
        for number in range(permutations):
            np.multiply(halves, factors[number], out=permuted)
            np.add(permuted, shifts[number], out=permuted)
            np.minimum.reduceat(permuted, offsets, out=least[number])
        result[filled] = least.T
    return result


def bands_for(threshold: float, permutations: int) -> tuple[int, int]:
    """(bands, rows): the longest rows with which a pair exactly at `threshold` is found with probability >= 0.99.

    bands * rows <= permutations. 1 - (1 - threshold ** rows) ** bands is the chance of sharing a band.
    """
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL:
            return bands, rows
    return permutations, 1


def candidates(signature: Signatures, threshold: float) -> Iterator[Ints]:
    """Pairs [m, 2] (first < second) that agree in a whole band, in chunks; a pair may come again in another band."""
    count, permutations = signature.shape
    bands, rows = bands_for(threshold, permutations)
    for band in range(bands):
        keys = np.zeros(count, np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            keys = _mix(keys * _FACTOR + signature[:, column])
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]], append=~keys[order[-1:]]))
        sizes = np.diff(edges)
        for size in np.unique(sizes[sizes > 1]).tolist():
            begins = edges[:-1][sizes == size]
            yield from _all_pairs(order[begins[:, None] + np.arange(size)])


def _all_pairs(buckets: Ints) -> Iterator[Ints]:
    """Every pair within each of the buckets [k, size], in chunks: thousands in one bucket must not fill the memory."""
    size = buckets.shape[1]
    per_chunk = max(_CHUNK // size, 1)
    for begin in range(0, size, per_chunk):
        left = np.arange(begin, min(begin + per_chunk, size))
        rows, columns = np.nonzero(left[:, None] < np.arange(size)[None, :])
        together = max(_CHUNK // max(len(rows), 1), 1)
        for low in range(0, len(buckets), together):
            some = buckets[low : low + together]
            yield np.stack([some[:, left[rows]].ravel(), some[:, columns].ravel()], axis=1)


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

    Pairs come sorted. Texts are asked for in their order, as slices, and those of likely pairs once more, so that they
    may lie on disk. `wanted(firsts, seconds)` leaves out pairs that do not matter before they are verified.
    A pair at the threshold is missed with probability below 1.1 %, one well above it almost never.
    """
    signature = np.empty((len(texts), permutations), np.uint32)
    places = np.empty(len(texts), np.int64)  # the texts that have a word, and a signature
    count = 0
    for begin, end in _runs(np.fromiter(map(len, texts), np.int64, len(texts)), _CHUNK):
        bags = _bags(texts[begin:end], size)
        filled = np.flatnonzero(np.diff(bags.starts))
        signature[count : count + len(filled)] = signatures(bags, permutations, seed)[filled]
        places[count : count + len(filled)] = begin + filled
        count += len(filled)
    likely = _likely(signature[:count], places[:count], threshold, wanted)
    del signature
    similarity = text_similarities(texts, likely, size)
    similar = similarity >= threshold
    return [
        Pair(first, second, alike)
        for (first, second), alike in zip(likely[similar].tolist(), similarity[similar].tolist(), strict=True)
    ]


def text_similarities(texts: Sequence[str], pairs: Ints, size: int) -> NDArray[np.float64]:
    """[m] Jaccard similarity of the shingle sets of the texts numbered pairs [m, 2]; a few megabytes at once."""
    result = np.empty(len(pairs))
    # Texts may lie on disk: those that are used are fetched once, in their order.
    fetched = {number: texts[number] for number in np.unique(pairs).tolist()}
    lengths = np.fromiter((len(fetched[number]) for number in pairs.ravel().tolist()), np.int64, pairs.size)
    for begin, end in _runs(lengths.reshape(-1, 2).sum(axis=1), _VERIFIED):
        used, numbers = np.unique(pairs[begin:end], return_inverse=True)
        sets = _many_shingles([fetched[number] for number in used.tolist()], size)
        numbers = numbers.reshape(-1, 2)
        # Sorted a cache full at once: several times faster than all of them.
        for first, last in _runs(np.diff(sets.starts)[numbers].sum(axis=1), _CHUNK // 8):
            result[begin + first : begin + last] = similarities(sets, numbers[first:last])
    return result


def _many_shingles(texts: Sequence[str], size: int) -> Shingles:
    """As `shingles`, made of as many texts at once as fit into a processor's cache."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    parts = [shingles(texts[begin:end], size) for begin, end in _runs(lengths, _CHUNK)]
    sizes = np.concatenate([np.diff(part.starts) for part in parts])
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Shingles(np.concatenate([part.hashes for part in parts]), starts)


def _runs(weights: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Begin and end of successive runs that weigh at most `most`, or hold a single one."""
    ends = np.cumsum(weights)
    begin = 0
    while begin < len(ends):
        before = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, before + most, side="right")), begin + 1)
        yield begin, end
        begin = end


def _likely(
    signature: Signatures,
    places: Ints,
    threshold: float,
    wanted: Callable[[Ints, Ints], NDArray[np.bool_]] | None,
) -> Ints:
    """[m, 2] the candidates whose signatures agree enough, each once, sorted; row i is of the text `places[i]`."""
    count, permutations = signature.shape
    # Four standard deviations below the threshold: what the estimate rejects would not have been verified.
    floor = threshold - 4 * np.sqrt(threshold * (1 - threshold) / permutations)
    found = np.empty(0, np.int64)  # a pair as one number: first * count + second
    for pairs in _gathered(candidates(signature, threshold)):
        fresh = np.setdiff1d(pairs[:, 0] * count + pairs[:, 1], found)
        if wanted is not None:
            fresh = fresh[wanted(places[fresh // count], places[fresh % count])]
        agree = _agreement(signature, np.stack([fresh // count, fresh % count], axis=1))
        found = np.union1d(found, fresh[agree >= floor])
    result: Ints = places[np.stack([found // max(count, 1), found % max(count, 1)], axis=1)]
    return result


def _gathered(chunks: Iterable[Ints]) -> Iterator[Ints]:
    """The chunks laid together to some megabytes: most are of a few pairs."""
    kept: list[Ints] = []
    held = 0
    for chunk in chunks:
        kept.append(chunk)
        held += len(chunk)
        if held >= _CHUNK:
            yield np.concatenate(kept)
            kept, held = [], 0
    if kept:
        yield np.concatenate(kept)


def _agreement(signature: Signatures, pairs: Ints) -> NDArray[np.float64]:
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


def _mix(value: Words) -> Words:
    """SplitMix64's finalizer (Steele, Lea and Flood, 2014): every input bit reaches every output bit."""
    value = value + np.uint64(_SEED)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
