"""How far a model's numbers are off: mean absolute and root mean squared error, and how well they order texts.

mae, rmse: in the data's units, lower is better. r2: the share of the variance that is explained, at most 1; below 0 it
is worse than always saying the mean. spearman: rank correlation, -1 to 1. Source: Willmott and Matsuura 2005; Spearman
1904. Errors: a DataError without items, or for items without a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..core.contracts import Floats
from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example
from ..functional.retrieval import rank_correlation
from ..functional.statistics import OfSums

__all__ = ["Regression"]


class Regression(Check):
    """Asks for each item's number and holds it against the given one."""

    example: ClassVar[Mapping[str, Any]] = {}
    tasks: ClassVar[frozenset[str]] = frozenset({"sequence_score"})
    needs: ClassVar[frozenset[str]] = frozenset({"text"})

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        if not test:
            raise DataError(
                "there are no test items with a number",
                expected="rows like the training rows in data.test or data.validation",
                remedy="set data.test to a share (0.1) or a path",
            )
        return test

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        target = context.facts["target"]
        said = np.array([values[0] for values in subject.rewards(examples)]) * target["spread"] + target["mean"]
        wanted = np.array([float(str(example.target)) for example in examples])
        return context.scores(examples, {"pairs": np.stack([said, wanted], axis=1)}, note=subject.about)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        return [
            Measure("mae", "lower", OfSums(lambda sums, rows: sums[:, 0] / rows, _errors), source="pairs"),
            Measure("rmse", "lower", OfSums(lambda sums, rows: np.sqrt(sums[:, 1] / rows), _errors), source="pairs"),
            Measure("r2", "higher", OfSums(_explained, _errors), source="pairs"),
            Measure("spearman", "higher", rank_correlation, source="pairs"),
        ]


def _errors(pairs: Floats) -> Floats:
    """[n, 2] (said, wanted) -> [n, 4]: absolute and squared error, wanted, its square."""
    away, wanted = pairs[:, 0] - pairs[:, 1], pairs[:, 1]
    return np.stack([np.abs(away), away**2, wanted, wanted**2], axis=1)


def _explained(sums: Floats, rows: Floats) -> Floats:
    return np.asarray(1 - sums[:, 1] / (sums[:, 3] - sums[:, 2] ** 2 / rows))
