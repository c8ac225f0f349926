"""How varied texts are, and how much of one corpus is in another.

Distinct-n: Li et al. 2016. Compression ratio: Shaib et al. 2024, Standardizing the Measurement of Text Diversity.
Vendi score: Friedman and Dieng 2023 (arXiv:2210.02410), equation 3. Sketches keep the smallest hashes of a set (Cohen
and Kaplan 2007), from which the share of one set that is in another is estimated in bounded memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sketch", "compression_ratio", "cosine_spread", "distinct", "vendi"]

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]


def distinct(words: Sequence[str], n: int) -> float:
    """The share of runs of n successive words that are different from each other; 0 where there is none.

    Falls with length: compare it between texts of as many words.
    """
    runs = list(zip(*(words[place:] for place in range(n)), strict=False))
    return len(set(runs)) / len(runs) if runs else 0.0


def compression_ratio(text: str) -> float:
    """Bytes of the text over bytes of it packed by DEFLATE: higher is more repetitive. 0 for no text."""
    plain = text.encode("utf-8", "surrogatepass")
    return len(plain) / len(zlib.compress(plain, 9)) if plain else 0.0


def cosine_spread(vectors: Floats) -> float:
    """Mean of 1 - cosine over all pairs of rows of unit length [n, width]: 0 all alike; 0 for fewer than two rows."""
    count = len(vectors)
    if count < 2:
        return 0.0
    total = vectors.sum(axis=0, dtype=np.float64)
    own = float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64))
    return 1 - (float(total @ total) - own) / (count * (count - 1))


def vendi(vectors: Floats) -> float:
    """The Vendi score with cosine kernel of unit rows [n, width]: how many quite different rows they are worth.

    1 (all alike) to n (all orthogonal): exp of the entropy of the eigenvalues of the kernel over n. 0 for no row.
    """
    if not len(vectors):
        return 0.0
    wide = vectors.astype(np.float64)
    # The smaller of the two products: both have the same eigenvalues but for zeros.
    kernel = wide @ wide.T if len(wide) <= wide.shape[1] else wide.T @ wide
    values = np.linalg.eigvalsh(kernel / len(wide))
    values = values[values > 1e-12]
    values = values / values.sum()
    return float(np.exp(-(values * np.log(values)).sum()))


class Sketch:
    """The `size` smallest of all hashes that were added: a sample of the set that any two sketches share."""

    def __init__(self, size: int = 4096) -> None:
        self.size = size
        self.hashes: Hashes = np.empty(0, np.uint64)

    def add(self, hashes: Hashes) -> None:
        """Adds 64-bit hashes; ones that were added before change nothing."""
        self.hashes = np.union1d(self.hashes, hashes)[: self.size]

    def share_in(self, other: Sketch) -> float:
        """An estimate of the share of this set that is in the other; exact where both fit into their sketches.

        Among hashes up to the smaller of the two largest kept ones, both sketches are complete.
        """
        bounds = [sketch.hashes[-1] for sketch in (self, other) if len(sketch.hashes) == sketch.size]
        own = self.hashes if not bounds else self.hashes[self.hashes <= min(bounds)]
        return float(np.isin(own, other.hashes).mean()) if len(own) else 0.0
