"""Clusters of directions: spherical k-means, for vectors that are compared by their cosine.

Centroids are unit vectors, a vector belongs to the centroid of largest cosine; the start is k-means++ on cosine
distance. The same vectors and seed give the same clusters. Source: Dhillon and Modha 2001; Arthur and Vassilvitskii
2007.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["spherical_kmeans", "unit"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_ROWS = 4096
"""Vectors whose cosines with all centroids are held at once."""


def unit(vectors: Floats) -> Floats:
    """[n, d] vectors of length one; zero vectors stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
    return scaled


def spherical_kmeans(vectors: Floats, count: int, seed: int, rounds: int = 20) -> tuple[Ints, Floats]:
    """The cluster of each of n unit vectors [n, d], and the centroids [count, d]; at most n clusters are made.

    Stops after so many rounds, or when no vector moves. A cluster that loses all its vectors keeps its centroid.
    """
    count = min(count, len(vectors))
    if not count:
        return np.zeros(0, np.int64), np.zeros((0, vectors.shape[1]), np.float32)
    centroids = _spread(vectors, count, np.random.default_rng(seed))
    labels = _nearest(vectors, centroids)
    for _ in range(rounds):
        sums = np.zeros_like(centroids)
        np.add.at(sums, labels, vectors)
        filled = np.bincount(labels, minlength=count) > 0
        centroids[filled] = unit(sums[filled])
        before, labels = labels, _nearest(vectors, centroids)
        if np.array_equal(before, labels):
            break
    return labels, centroids


def _spread(vectors: Floats, count: int, random: np.random.Generator) -> Floats:
    """Vectors drawn one by one, each with a probability that grows with its distance from those drawn before."""
    chosen = [int(random.integers(len(vectors)))]
    distance = np.full(len(vectors), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.maximum(1 - vectors @ vectors[chosen[-1]], 0))
        distance[chosen] = 0
        total = distance.sum()
        left = np.ones(len(vectors)) if total <= 0 else distance
        chosen.append(int(random.choice(len(vectors), p=left / left.sum())))
    return vectors[chosen].copy()


def _nearest(vectors: Floats, centroids: Floats) -> Ints:
    parts = [(vectors[at : at + _ROWS] @ centroids.T).argmax(axis=1) for at in range(0, len(vectors), _ROWS)]
    return np.concatenate(parts).astype(np.int64)
