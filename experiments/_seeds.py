"""Means over seeds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from luthier.functional.statistics import t_quantile

__all__ = ["mean_interval"]


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float | None, float | None]:
    """The mean and its 95 % interval by Student's t; no interval for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None, None
    wide = t_quantile(0.975, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - wide, mean + wide
