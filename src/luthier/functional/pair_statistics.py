"""Numbers of compared answers as statistics of sums: how often the better one wins, and whether length decides.

Rows are answers' measures side by side; a tie counts half. Sources stand with the checks that use them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .statistics import OfSums

__all__ = ["area_under_curve", "correlation", "wins"]

Floats = NDArray[np.float64]


def wins(first: Floats, second: Floats) -> Floats:
    """[n] 1 where the first is larger, 0 where the second is, 0.5 where neither."""
    return np.asarray(0.5 * (1 + np.sign(first - second)), dtype=np.float64)


def _moments(pairs: Floats) -> Floats:
    """[n, 2] -> [n, 5]: x, y, xx, yy, xy."""
    x, y = pairs[:, 0], pairs[:, 1]
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _pearson(sums: Floats, rows: Floats) -> Floats:
    x, y, xx, yy, xy = (sums[:, column] / rows for column in range(5))
    spread = np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0)
    return np.where(spread > 0, (xy - x * y) / np.sqrt(spread), np.nan)


correlation = OfSums(_pearson, _moments)
"""Pearson's correlation of the first two columns; undefined where one of them does not vary."""


def area_under_curve(values: Floats) -> float:
    """The chance that a positive row's number is above a negative's, ties half: values [n, 2] are numbers and 1 or 0.

    Undefined without rows of both kinds. Hanley and McNeil 1982: the Mann-Whitney statistic over the pairs.
    """
    numbers, positive = values[:, 0], values[:, 1] > 0
    above, below = int(positive.sum()), int((~positive).sum())
    if not above or not below:
        return math.nan
    ordered = np.sort(numbers)
    ranks = 0.5 * (np.searchsorted(ordered, numbers) + np.searchsorted(ordered, numbers, side="right") + 1)
    return float((ranks[positive].sum() - above * (above + 1) / 2) / (above * below))
