"""Confident learning: which labels are probably wrong, from out-of-sample probabilities.

Northcutt, Jiang and Chuang 2021 (arXiv:1911.00068). A row counts toward (given label i, true label j) where its
probability of j is at least the mean that rows labeled j have for it (equation 1); these counts, scaled to the number
of rows of each label, estimate the joint distribution of given and true labels (equation 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["confident_joint", "label_errors", "out_of_sample"]

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


def confident_joint(labels: Ints, chances: Floats) -> Floats:
    """[c, c] estimated number of rows with given label i (row) and true label j (column).

    labels: [n] 0 to c - 1, each at least once. chances: [n, c] out-of-sample probabilities.
    """
    count = chances.shape[1]
    expected = np.array([chances[labels == label, label].mean() for label in range(count)])
    # A float's rounding must not decide where every row of a class has the same probability.
    enough = chances >= expected - 1e-6
    sure = np.flatnonzero(enough.any(axis=1))
    true = np.where(enough, chances, -1.0)[sure].argmax(axis=1)
    joint = np.zeros((count, count))
    np.add.at(joint, (labels[sure], true), 1)
    # A label for which no row was sure: its rows are taken to be right.
    empty = joint.sum(axis=1) == 0
    joint[empty, empty] = 1
    rows = np.bincount(labels, minlength=count)
    scaled: Floats = joint * (rows / joint.sum(axis=1))[:, None]
    return scaled


def label_errors(labels: Ints, chances: Floats) -> tuple[NDArray[np.bool_], Ints]:
    """[n] whether a label is probably wrong, and [n] the label that is most probable for the row.

    Of rows labeled i, as many as the joint holds for (i, j) are taken, those with the largest difference between the
    probabilities of j and i (pruning by noise rate, section 3.2); of a label at least one row is never taken.
    """
    joint = np.round(confident_joint(labels, chances)).astype(np.int64)
    wrong = np.zeros(len(labels), bool)
    for given in range(len(joint)):
        rows = np.flatnonzero(labels == given)
        taken = np.zeros(len(rows), bool)
        for true in range(len(joint)):
            wanted = int(joint[given, true])
            if true == given or not wanted:
                continue
            margin = chances[rows, true] - chances[rows, given]
            taken[np.argsort(-margin, kind="stable")[:wanted]] = True
        if taken.all() and len(rows):
            taken[chances[rows, given].argmax()] = False
        wrong[rows[taken]] = True
    likely = chances.argmax(axis=1)
    # A row that the classifier would label as it is labeled is no error, whatever the counts say.
    return wrong & (likely != labels), likely


def out_of_sample(
    vectors: NDArray[np.float32], labels: Ints, folds: Ints, *, epochs: int, seed: int
) -> NDArray[np.float32]:
    """[n, c] probabilities of rows [n, width] by softmax regressions that did not see them; folds: [n] their numbers.

    A class that lies in one fold only is improbable for every row of that fold.
    """
    from .softmax import fitted, probabilities

    count = int(labels.max()) + 1
    found = np.empty((len(labels), count), np.float32)
    for fold in np.unique(folds):
        held, seen = folds == fold, folds != fold
        found[held] = probabilities(vectors[held], *fitted(vectors[seen], labels[seen], count, epochs, seed))
    return found
