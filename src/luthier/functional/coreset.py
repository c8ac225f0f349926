"""A few vectors that cover all: greedy k-center.

Gonzalez 1985 (its radius is at most twice the best one); for data: Sener and Savarese 2018, Active Learning for
Convolutional Neural Networks: A Core-Set Approach (arXiv:1708.00489), algorithm 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["k_center"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def k_center(vectors: Floats, count: int) -> tuple[Ints, Floats]:
    """The numbers of `count` rows ([count], in the order they were taken) and each row's distance to the nearest ([n]).

    The first is the row nearest to the mean; each further one is the row farthest from those taken, the first of equal
    ones. Distances are Euclidean. Time: n x count x width.
    """
    squares = np.einsum("nd,nd->n", vectors, vectors)
    mean = vectors.mean(axis=0)
    taken = [int((squares - 2 * (vectors @ mean)).argmin())]
    nearest = _squared(vectors, squares, taken[0])
    while len(taken) < count:
        farthest = int(nearest.argmax())
        taken.append(farthest)
        np.minimum(nearest, _squared(vectors, squares, farthest), out=nearest)
    nearest[taken] = 0
    return np.array(taken, np.int64), np.sqrt(nearest)


def _squared(vectors: Floats, squares: Floats, row: int) -> Floats:
    found: Floats = np.maximum(squares + squares[row] - 2 * (vectors @ vectors[row]), 0)
    found[row] = -1  # rows equal to one that was taken come last, and none comes twice
    return found
