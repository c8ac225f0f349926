"""How far predicted levels are off: mean distance in levels, and Cohen's kappa with quadratic weights.

The predicted level is the median of the model's probabilities. mae: in levels, lower is better. kappa: agreement beyond
chance, at most 1, errors weighted by their squared distance. Source: Cohen 1968. Errors: a DataError without items, or
for a class unknown to the training data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..core.contracts import Floats
from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example
from ..functional.statistics import OfSums, row_mean

__all__ = ["Levels"]


class Levels(Check):
    """For classes that have an order, as the objective ordinal puts them."""

    example: ClassVar[Mapping[str, Any]] = {}
    tasks: ClassVar[frozenset[str]] = frozenset({"sequence_classification"})

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        if not test:
            raise DataError("there are no test items", expected="rows with a level", remedy="set data.test to a share")
        return test

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        classes = list(context.facts["classes"])
        names = [f"{row.target:g}" if isinstance(row.target, float) else str(row.target) for row in examples]
        unknown = next((row for row, name in zip(examples, names, strict=True) if name not in classes), None)
        if unknown is not None:
            raise DataError(
                f"the class '{unknown.target}' does not occur in the training data",
                where=str(unknown.origin),
                expected=f"one of the {len(classes)} levels, one a row",
                remedy="drop it from the test data",
            )
        upto = np.exp(subject.classify(examples)).cumsum(axis=1)
        said = (upto < 0.5 * upto[:, -1:]).sum(axis=1)
        pairs = np.stack([said, [classes.index(name) for name in names]], axis=1).astype(np.float64)
        values = {"mae": np.abs(pairs[:, :1] - pairs[:, 1:]), "pairs": pairs}
        return context.scores(examples, values, note=subject.about)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        kappa = OfSums(_kappa, partial(_counted, size=len(facts["classes"])))
        return [Measure("mae", "lower", row_mean), Measure("kappa", "higher", kappa, source="pairs")]


def _counted(pairs: Floats, size: int) -> Floats:
    """[n, 2] -> [n, 1 + 2C]: squared distance, one-hot of what was said and of what was wanted."""
    one = np.eye(size)
    said, wanted = pairs.astype(np.int64).T
    return np.hstack([((said - wanted) ** 2)[:, None], one[said], one[wanted]])


def _kappa(sums: Floats, rows: Floats) -> Floats:
    said, wanted = np.split(sums[:, 1:], 2, axis=1)
    places = np.arange(said.shape[1])
    apart = (places[:, None] - places[None, :]) ** 2
    chance = np.einsum("mi,ij,mj->m", said, apart, wanted) / rows
    return np.asarray(1 - sums[:, 0] / chance)
