"""Softmax regression by stochastic gradient descent, stopped early, and the errors of its predictions (EL2N).

Paul, Ganguli and Dziugaite 2021, Deep Learning on a Data Diet (arXiv:2107.07075), section 2: the score of a row is the
expected L2 norm of softmax(logits) - one-hot label early in training, over several initializations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["error_norms", "fitted", "probabilities"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_RATE, _BATCH = 4.0, 64
"""The rate at the start, for vectors of unit length; it falls to zero, so that the last rows seen count no more."""


def fitted(
    vectors: Floats, classes: Ints, count: int, epochs: int, seed: int, rate: float = _RATE
) -> tuple[Floats, Floats]:
    """Weights [count, width] and biases [count] after so many epochs over unit vectors [n, width], classes [n].

    rate: of the first step; with 40 and 1,500 steps or more it comes to what a converged fit does.
    """
    draw = np.random.default_rng([seed, 19])
    weights = draw.normal(0, 0.01, (count, vectors.shape[1])).astype(np.float32)
    biases = np.zeros(count, np.float32)
    order = np.concatenate([draw.permutation(len(vectors)) for _ in range(epochs)])
    for low in range(0, len(order), _BATCH):
        chosen = order[low : low + _BATCH]
        wrong = probabilities(vectors[chosen], weights, biases)
        wrong[np.arange(len(chosen)), classes[chosen]] -= 1
        wrong *= rate * (1 - low / len(order)) / len(chosen)
        weights -= wrong.T @ vectors[chosen]
        biases -= wrong.sum(axis=0)
    return weights, biases


def probabilities(vectors: Floats, weights: Floats, biases: Floats) -> Floats:
    """[n, count] softmax of the logits."""
    logits = vectors @ weights.T + biases
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    result: Floats = logits / logits.sum(axis=1, keepdims=True)
    return result


def error_norms(
    vectors: Floats, classes: Ints, *, epochs: int, fits: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """[n] EL2N scores, 0 to sqrt(2), and [n] whether a row's class is the one that the fits find most probable.

    A score is the mean over `fits` short trainings of the norm of the row's error.
    """
    count = int(classes.max()) + 1
    norms = np.zeros(len(vectors))
    chances = np.zeros((len(vectors), count), np.float32)
    for number in range(fits):
        found = probabilities(vectors, *fitted(vectors, classes, count, epochs, seed + number))
        chances += found
        found[np.arange(len(classes)), classes] -= 1
        norms += np.linalg.norm(found, axis=1)
    return norms / fits, chances.argmax(axis=1) == classes
