"""Which labels are probably wrong: a model of how labels go wrong, fitted to out-of-sample probabilities by EM.

A row's true class is drawn from the classifier's probabilities, sharpened by a power, since a classifier that learned
wrong labels doubts too much; its label is then drawn from the true class's row of a noise matrix, as in confident
learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068). Power and matrix are those that make the labels most
probable (Dawid and Skene 1979, with a classifier in place of their prior).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["label_errors", "out_of_sample", "stratified_folds", "true_chances"]

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

_PRIOR = 20.0
"""Rows that each class is taken to have had before any was seen, wrong as often as all are and evenly over the others:
few enough that a confusion of two classes is learned, enough that one odd row is not taken for a habit."""
_ROUNDS = 1000
_ENOUGH = 1e-8  # gain of the mean log-likelihood; power and noise part late, and slowly
_LEAST = 1e-9  # probability that a classifier may give a class
_SHARPEST = 10.0
_RATE = 20.0  # a few hundred steps must do for classes of few rows; at a lower rate these are found wrong as a whole


def true_chances(labels: Ints, chances: Floats) -> Floats:
    """[n, c] probability of each class to be the row's true one, its label taken into account.

    labels: [n] 0 to c - 1, each at least once, c at least 2. chances: [n, c] out-of-sample probabilities.
    """
    rows, count = chances.shape
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=count)
    logs = np.log(np.maximum(chances[order].astype(np.float64), _LEAST))
    noise = _even(0.1, count)  # [label, true class]
    power, before = 1.0, -np.inf
    for _ in range(_ROUNDS):
        prior = np.exp(power * (logs - logs.max(axis=1, keepdims=True)))
        prior /= prior.sum(axis=1, keepdims=True)
        true = prior * np.repeat(noise, sizes, axis=0)
        total = true.sum(axis=1, keepdims=True)
        true /= total
        likelihood = float(np.log(total).mean())
        if likelihood - before < _ENOUGH:
            break
        before = likelihood
        expected = np.add.reduceat(true, np.cumsum(sizes) - sizes, axis=0)
        share = max(1 - np.trace(expected) / rows, 1 / rows)
        noise = (expected + _PRIOR * _even(share, count)) / (expected.sum(axis=0) + _PRIOR)
        # Newton's step toward the power under which the true classes are most probable.
        mean = (prior * logs).sum(axis=1)
        spread = ((prior * logs**2).sum(axis=1) - mean**2).sum()
        step = ((true * logs).sum() - mean.sum()) / max(spread, _LEAST)
        power = float(np.clip(power + step, power / 2, min(2 * power, _SHARPEST)))
    found: Floats = np.empty_like(true)
    found[order] = true
    return found


def _even(share: float, count: int) -> Floats:
    """[count, count] noise by which a share of each class has another label, all others alike."""
    noise = np.full((count, count), share / (count - 1))
    np.fill_diagonal(noise, 1 - share)
    return noise


def label_errors(labels: Ints, true: Floats, least: float = 0.5) -> tuple[NDArray[np.bool_], Ints]:
    """[n] whether a label is wrong with a probability of `least` or more, and [n] the most probable other class.

    true: [n, c] as `true_chances`. Of each label the row that is most probably right is never taken for wrong.
    """
    rows = np.arange(len(labels))
    own = true[rows, labels]
    others = true.copy()
    others[rows, labels] = -1
    wrong = 1 - own >= least
    for label in np.unique(labels[wrong]):
        alike = np.flatnonzero(labels == label)
        if wrong[alike].all():
            wrong[alike[own[alike].argmax()]] = False
    return wrong, others.argmax(axis=1)


def stratified_folds(labels: Ints, draws: Sequence[float], count: int) -> Ints:
    """[n] fold of each row, 0 to count - 1: the rows of a class, in the order of their draws, are dealt out in turn."""
    folds = np.empty(len(labels), np.int64)
    folds[np.lexsort((np.asarray(draws), labels))] = np.arange(len(labels)) % count
    return folds


def out_of_sample(
    vectors: NDArray[np.float32], labels: Ints, folds: Ints, *, epochs: int, seed: int
) -> NDArray[np.float32]:
    """[n, c] probabilities of rows [n, width] by softmax regressions that did not see them; folds: [n] their numbers.

    A class of one row is improbable for it.
    """
    from .softmax import fitted, probabilities

    count = int(labels.max()) + 1
    found = np.empty((len(labels), count), np.float32)
    for fold in np.unique(folds):
        held, seen = folds == fold, folds != fold
        found[held] = probabilities(vectors[held], *fitted(vectors[seen], labels[seen], count, epochs, seed, _RATE))
    return found
