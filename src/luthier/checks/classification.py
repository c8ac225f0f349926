"""How often the model names the right class: accuracy and F1, for each class too.

One class a row: accuracy and macro F1. Several: subset accuracy (all labels right), micro and macro F1, a class being
given from probability 0.5. Precision and recall for each class. All 0 to 1, higher is better. Macro F1 is the mean over
classes that occur among gold or predicted labels; one that is never right counts 0 (scikit-learn's default).
Source: Sokolova and Lapalme 2009. Errors: a DataError without items, or for a class unknown to the training data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.contracts import Floats
from ..core.errors import DataError, nearest
from ..core.evidence import Check, CheckContext, Confusion, Measure, Scores, Subject
from ..core.example import Example
from ..functional.statistics import OfSums, row_mean

__all__ = ["Classification"]


class Classification(Check):
    """Predicts each item's class or classes and counts; with one class a row the confusion matrix is kept."""

    example: ClassVar[Mapping[str, Any]] = {"per_class": False}
    tasks: ClassVar[frozenset[str]] = frozenset({"sequence_classification"})
    per_class: bool = Field(True, description="precision and recall of each class as findings of their own")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        if not test:
            raise DataError(
                "there are no test items to classify",
                expected="labeled rows in data.test or data.validation",
                remedy="set data.test to a share (0.1) or a path",
            )
        return test

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        classes: Sequence[str] = context.facts["classes"]
        labels = [_labels(example, classes) for example in examples]
        logps = subject.classify(examples)
        note = subject.about
        for common, count in Counter(label for found in labels for label in found).most_common(1):
            note += f"; the most frequent class, {classes[common]}, has {count / len(labels):.1%} of the rows"
        if context.facts["multi_label"]:
            gold = np.zeros(logps.shape)
            for row, found in enumerate(labels):
                gold[row, list(found)] = 1.0
            given = (logps >= np.log(0.5)).astype(np.float64)
            hits = (gold == given).all(axis=1, keepdims=True).astype(np.float64)
            return context.scores(examples, {"labels": np.hstack([gold, given]), "subset_accuracy": hits}, note=note)
        pairs = np.stack([np.array([found[0] for found in labels]), logps.argmax(axis=1)], axis=1)
        matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(matrix, (pairs[:, 0], pairs[:, 1]), 1)
        values = {
            "pairs": pairs.astype(np.float64),
            "accuracy": (pairs[:, :1] == pairs[:, 1:]).astype(np.float64),
        }
        confusion = Confusion(tuple(classes), tuple(map(tuple, matrix.tolist())))
        return context.scores(examples, values, note=note, confusion=confusion)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        classes: Sequence[str] = facts["classes"]
        several = bool(facts["multi_label"])
        source = "labels" if several else "pairs"
        # One function for all measures: what is summed is then summed once for all of them.
        columns = _of_labels if several else partial(_of_pairs, size=len(classes))
        result = [Measure("subset_accuracy" if several else "accuracy", "higher", row_mean, binary=True)]
        result.append(Measure("macro_f1", "higher", OfSums(_macro_f1, columns), source=source, trials=_every_row))
        if several:
            result.append(Measure("micro_f1", "higher", OfSums(_micro_f1, columns), source=source, trials=_every_row))
        for number, name in enumerate(classes if self.per_class else ()):
            for metric, block in (("precision", 1), ("recall", 2)):
                of = number + block * len(classes)
                share, trials = OfSums(_share(number, of), columns), _column(columns, of)
                result.append(Measure(metric, "higher", share, source, trials=trials, paired=False, group=name))
        return result


def _labels(example: Example, classes: Sequence[str]) -> tuple[int, ...]:
    names = example.target if isinstance(example.target, tuple) else (str(example.target),)
    for name in names:
        if name not in classes:
            near = nearest(name, classes)
            raise DataError(
                f"the class '{name}' does not occur in the training data",
                where=str(example.origin),
                expected=f"one of the {len(classes)} classes" + (f", such as '{near}'" if near else ""),
                remedy="add rows of this class to the training data, or drop it from the test data",
            )
    return tuple(classes.index(name) for name in names)


# Sums of columns: for each class its rows that are right, then those predicted, then those that are gold: [.., 3C].


def _of_pairs(pairs: Floats, size: int) -> Floats:
    """[n, 2] (gold, predicted) -> [n, 3C]."""
    gold, given = (np.eye(size)[pairs[:, side].astype(np.int64)] for side in (0, 1))
    return np.hstack([gold * given, given, gold])


def _of_labels(labels: Floats) -> Floats:
    """[n, 2C] (gold, predicted) -> [n, 3C]."""
    gold, given = np.split(labels, 2, axis=1)
    return np.hstack([gold * given, given, gold])


def _macro_f1(sums: Floats, rows: Floats) -> Floats:
    right, given, gold = np.split(sums, 3, axis=1)
    there = given + gold > 0
    scores = np.divide(2 * right, given + gold, out=np.zeros_like(right), where=there)
    return np.asarray(scores.sum(axis=1) / there.sum(axis=1))


def _micro_f1(sums: Floats, rows: Floats) -> Floats:
    right, given, gold = (block.sum(axis=1) for block in np.split(sums, 3, axis=1))
    return np.asarray(2 * right / (given + gold))


def _every_row(values: Floats) -> Floats:
    return np.ones(len(values))


def _column(columns: Callable[[Floats], Floats], number: int) -> Callable[[Floats], Floats]:
    return lambda values: columns(values)[:, number]


def _share(numerator: int, denominator: int) -> Callable[[Floats, Floats], Floats]:
    return lambda sums, rows: sums[:, numerator] / sums[:, denominator]
