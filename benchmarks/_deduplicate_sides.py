"""The sides of the benchmark of near duplicates: ours in numpy, datasketch, and where it is installed rensa (Rust), by
itself and making the signatures for ours.

Each finds the pairs of documents whose sets of 3-word shingles are at least 0.8 alike, from the same texts and the same
words, with 128 permutations and the same bands, verified on the sets themselves. The peers hold all sets in memory,
which is their fastest way; Python's own iterators make them. Ours makes them anew for what it verifies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._turns import Clock, Turns
from luthier.functional import minhash
from luthier.functional.minhash import Shingles, bands_for, similar_pairs

__all__ = ["PERMUTATIONS", "RUST", "SIZE", "THRESHOLD", "shingles", "work"]

RUST = "ours with rensa's signatures"
THRESHOLD, SIZE, PERMUTATIONS = 0.8, 3, 128
_WORD = re.compile(r"\w+|[^\w\s]")
Pairs = list[tuple[int, int]]


def work(settings: Mapping[str, Any], turns: Turns) -> None:
    """Reads the documents; a turn's request is how many of them, its answer the pairs and the time."""
    documents = json.loads(Path(settings["documents"]).read_text(encoding="utf-8"))
    side: str = settings["side"]
    find: Callable[[list[str]], Pairs] = {"datasketch": datasketch, "rensa": rensa}.get(side, ours)
    if side == RUST:
        minhash.signatures = _rust_signatures  # in this process, which is the side's own
    for count in turns:
        some = documents[:count]
        clock = Clock()
        pairs = find(some)
        turns.answer({**clock.read(), "pairs": sorted(pairs)})


def ours(documents: list[str]) -> Pairs:
    found = similar_pairs(documents, THRESHOLD, size=SIZE, permutations=PERMUTATIONS)
    return [(pair.first, pair.second) for pair in found]


def _rust_signatures(sets: Shingles, permutations: int, seed: int = 1) -> NDArray[np.uint32]:
    from rensa import RMinHash

    starts = sets.starts.astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(sets.hashes, starts, permutations, seed)
    return np.array(matrix.to_rows(), np.uint32)


def shingles(text: str) -> set[str]:
    """Every three successive words, or all words of a shorter text."""
    words = _WORD.findall(text.casefold())
    if len(words) < SIZE:
        return {" ".join(words)} if words else set()
    return set(map(" ".join, zip(*(words[place:] for place in range(SIZE)), strict=False)))


def datasketch(documents: list[str]) -> Pairs:
    import xxhash
    from datasketch import MinHash, MinHashLSH

    sets = [shingles(text) for text in documents]
    encoded = ([shingle.encode() for shingle in some] for some in sets)
    signatures = MinHash.bulk(encoded, num_perm=PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, params=bands_for(THRESHOLD, PERMUTATIONS))
    met: Pairs = []
    for number, signature in enumerate(signatures):
        met += [(earlier, number) for earlier in index.query(signature)]
        index.insert(number, signature, check_duplication=False)
    return [*_verified(met, sets)]


def rensa(documents: list[str]) -> Pairs:
    from rensa import RMinHash, RMinHashLSH

    sets = [shingles(text) for text in documents]
    bands, rows = bands_for(THRESHOLD, PERMUTATIONS)
    signatures = RMinHash.from_token_sets([list(some) for some in sets], bands * rows, 1)
    index = RMinHashLSH(THRESHOLD, bands * rows, bands)
    met: Pairs = []
    for number, signature in enumerate(signatures):
        met += [(earlier, number) for earlier in index.query(signature)]
        index.insert(number, signature)
    return [*_verified(met, sets)]


def _verified(met: Pairs, sets: list[set[str]]) -> Iterator[tuple[int, int]]:
    for first, second in met:
        one, other = sets[first], sets[second]
        if len(one & other) >= THRESHOLD * len(one | other):
            yield first, second
