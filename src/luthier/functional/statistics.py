"""Uncertainty of measured numbers: bootstrap intervals, paired tests, and their adjustment when there are many.

Rows are resampled, or whole clusters of them where rows of one cluster depend on each other. All draws come from seeded
numpy generators: equal arguments give equal results. A statistic is a function of the rows, [n, k] -> float; one that
needs only the sums of columns (a mean, perplexity, BLEU, F1) is an `OfSums` and is resampled by one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Difference",
    "Estimate",
    "OfSums",
    "Resampling",
    "bootstrap",
    "holm",
    "interval",
    "mcnemar",
    "paired_bootstrap",
    "row_mean",
    "sign_flip",
    "t_cdf",
    "t_quantile",
    "two_sided",
]

Floats = NDArray[np.float64]
Aggregate = Callable[[Floats], float]

_BLOCK = 4_000_000
"""Numbers held at once while drawing: 32 MB of float64."""


@dataclass(frozen=True)
class OfSums:
    """A statistic that depends on the rows through the sums of columns only.

    of: (sums [m, j], rows [m]) -> [m], m resamples at once. columns: [n, k] -> [n, j], row by row; default: no change.
    """

    of: Callable[[Floats, Floats], Floats]
    columns: Callable[[Floats], Floats] | None = None

    def __call__(self, values: Floats) -> float:
        rows = values if self.columns is None else self.columns(values)
        return float(self.at(rows.sum(0)[None], np.array([float(len(rows))]))[0])

    def at(self, sums: Floats, rows: Floats) -> Floats:
        """[m] values; where `of` divides by zero they are NaN or infinite, without a warning."""
        with np.errstate(all="ignore"):
            return np.asarray(self.of(sums, rows), dtype=np.float64)


row_mean = OfSums(lambda sums, rows: sums[:, 0] / rows)
"""The mean of the first column."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the bounds of its 95 % interval; None where there is no interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Second minus first with the bounds of its interval and a two-sided p."""

    value: float
    low: float | None
    high: float | None
    p: float | None


class Resampling:
    """Bootstrap resamples of n rows, or of their clusters; the same ones for every statistic that is asked for.

    Source: Efron and Tibshirani 1993, chapters 6 and 8; clusters: Davison and Hinkley 1997, section 3.8.
    """

    def __init__(
        self, rows: int, *, clusters: Sequence[str] | None = None, resamples: int = 1000, seed: int = 0
    ) -> None:
        assert clusters is None or len(clusters) == rows, "one cluster name a row"
        self.rows = rows
        self.resamples = resamples
        self.seed = seed
        self._unit = np.arange(rows) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
        self.units = int(self._unit.max()) + 1 if rows else 0
        self._kept: NDArray[np.float64] | None = None
        self._sums: dict[tuple[int, Any], _Sums] = {}

    def units_of(self, rows: NDArray[np.bool_]) -> int:
        """In how many units these rows [n] lie."""
        return len(np.unique(self._unit[rows]))

    def _counts(self) -> Iterator[Floats]:
        """Blocks [b, units] of how often each unit was drawn; kept while all of them fit in one block."""
        if self._kept is not None:
            yield self._kept
            return
        generator = np.random.default_rng(self.seed)
        block = max(1, min(self.resamples, _BLOCK // max(1, self.units)))
        for start in range(0, self.resamples, block):
            size = min(block, self.resamples - start)
            drawn = generator.integers(0, self.units, size=(size, self.units))
            drawn += np.arange(size)[:, None] * self.units
            counts = (
                np.bincount(drawn.ravel(), minlength=size * self.units).reshape(size, self.units).astype(np.float64)
            )
            if block >= self.resamples:
                self._kept = counts
            yield counts

    def _per_unit(self, columns: Floats) -> tuple[Floats, Floats]:
        """Sums [units, j] and numbers of rows [units]."""
        if self.units == self.rows:
            order = np.argsort(self._unit, kind="stable")
            return columns[order], np.ones(self.units)
        sums = np.zeros((self.units, columns.shape[1]))
        np.add.at(sums, self._unit, columns)
        return sums, np.bincount(self._unit, minlength=self.units).astype(np.float64)

    def _summed(self, aggregate: OfSums, values: Floats) -> _Sums:
        """Sums of the aggregate's columns; shared by all statistics of the same values with the same columns."""
        key = (id(values), aggregate.columns)
        if key not in self._sums:
            columns = values if aggregate.columns is None else aggregate.columns(values)
            per_unit, sizes = self._per_unit(columns)
            both = [(counts @ per_unit, counts @ sizes) for counts in self._counts()]
            sums, rows = (np.concatenate(side) for side in zip(*both, strict=True))
            group, last = self._groups()
            outside = np.stack([np.bincount(group, weights=column, minlength=last) for column in per_unit.T], axis=1)
            outside_rows = np.bincount(group, weights=sizes, minlength=last)
            whole = per_unit.sum(0)
            self._sums[key] = _Sums(values, whole, sums, rows, whole - outside, sizes.sum() - outside_rows)
        return self._sums[key]

    def _groups(self) -> tuple[NDArray[np.int64], int]:
        """For each unit the part that the jackknife leaves out with it: 500 parts at most, else a unit each.

        Parts take turns, since neighbors in a file are often alike. Parts keep the acceleration: it needs sums of
        squares and cubes, whose expectations are the same.
        """
        last = min(500, self.units)
        return np.arange(self.units) % max(1, last), last

    def value(self, aggregate: Aggregate, values: Floats) -> float:
        """The statistic of all rows."""
        if isinstance(aggregate, OfSums):
            return float(aggregate.at(self._summed(aggregate, values).whole[None], np.array([float(self.rows)]))[0])
        return float(aggregate(values))

    def replicates(self, aggregate: Aggregate, values: Floats) -> Floats:
        """[m] the statistic of every resample."""
        if isinstance(aggregate, OfSums):
            summed = self._summed(aggregate, values)
            return aggregate.at(summed.resampled, summed.resampled_rows)
        positions = np.arange(self.rows)
        found: list[float] = []
        for counts in self._counts():
            of_row = counts.astype(np.int64)[:, self._unit]
            found.extend(float(aggregate(values[np.repeat(positions, times)])) for times in of_row)
        return np.asarray(found)

    def left_out(self, aggregate: Aggregate, values: Floats) -> Floats:
        """[B] the statistic without each part of the units in turn (the jackknife)."""
        if isinstance(aggregate, OfSums):
            summed = self._summed(aggregate, values)
            return aggregate.at(summed.left, summed.left_rows)
        group, last = self._groups()
        of_row = group[self._unit]
        return np.asarray([aggregate(values[of_row != index]) for index in range(last)])


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of columns over all rows [j], over each resample [m, j], and without each part [B, j], with rows counted.

    `values` is held so that its id, the key, is not used again.
    """

    values: Floats
    whole: Floats
    resampled: Floats
    resampled_rows: Floats
    left: Floats
    left_rows: Floats


def interval(
    value: float, replicates: Floats, left_out: Floats | None = None, level: float = 0.95
) -> tuple[float, float] | None:
    """Bounds from bootstrap replicates: BCa where the jackknife is given, else percentiles.

    Undefined replicates are left out; None where fewer than half are defined or the value itself is not.
    Source: Efron 1987 (JASA 82), equations 2.3 and 6.6. Without spread, or with the value outside all replicates, BCa
    has no meaning and percentiles are taken.
    """
    defined = replicates[~np.isnan(replicates)]
    if math.isnan(value) or 2 * len(defined) < len(replicates) or len(defined) == 0:
        return None
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if left_out is not None and len(left_out) > 1 and np.isfinite(left_out).all():
        tails = _bca_tails(value, defined, left_out, tails)
    # Between an infinite replicate and its neighbor there is nothing to interpolate.
    low, high = np.quantile(defined, tails, method="linear" if np.isfinite(defined).all() else "nearest")
    return float(low), float(high)


def _bca_tails(value: float, replicates: Floats, left_out: Floats, tails: Floats) -> Floats:
    below = (np.mean(replicates < value) + np.mean(replicates <= value)) / 2
    if not 0 < below < 1:
        return tails
    normal = NormalDist()
    bias = normal.inv_cdf(float(below))
    # The acceleration has no unit: dividing by the largest keeps the cubes of a diverged model's figures in range.
    relative = left_out / (np.abs(left_out).max() or 1.0)
    away = relative.mean() - relative
    scale = float((away**2).sum()) ** 1.5
    acceleration = float((away**3).sum()) / (6 * scale) if scale > 0 else 0.0
    shifted = [bias + normal.inv_cdf(float(tail)) for tail in tails]
    return np.array([normal.cdf(bias + s / (1 - acceleration * s)) for s in shifted])


def bootstrap(
    values: Floats,
    aggregate: Aggregate,
    *,
    clusters: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    bca: bool = True,
    level: float = 0.95,
) -> Estimate:
    """The statistic of rows [n, k] with its bootstrap interval; no interval for fewer than two units."""
    resampling = Resampling(len(values), clusters=clusters, resamples=resamples, seed=seed)
    value = resampling.value(aggregate, values)
    if resampling.units < 2:
        return Estimate(value, None, None)
    left_out = resampling.left_out(aggregate, values) if bca else None
    bounds = interval(value, resampling.replicates(aggregate, values), left_out, level)
    return Estimate(value, *(bounds or (None, None)))


def paired_bootstrap(
    first: Floats, second: Floats, aggregate: Aggregate, resampling: Resampling, level: float = 0.95
) -> Difference:
    """aggregate(second) - aggregate(first), both on the same resampled rows; BCa bounds and a two-sided p."""
    value = resampling.value(aggregate, second) - resampling.value(aggregate, first)
    if resampling.units < 2:
        return Difference(value, None, None, None)
    replicates = resampling.replicates(aggregate, second) - resampling.replicates(aggregate, first)
    left_out = resampling.left_out(aggregate, second) - resampling.left_out(aggregate, first)
    bounds = interval(value, replicates, left_out, level)
    if bounds is None:
        return Difference(value, None, None, None)
    return Difference(value, *bounds, two_sided(replicates))


def two_sided(replicates: Floats) -> float:
    """Twice the smaller share of replicates on either side of zero, as (b + 1) / (m + 1); at most 1.

    Source: Davison and Hinkley 1997, section 4.4 (the interval that just touches zero).
    """
    defined = replicates[~np.isnan(replicates)]
    smaller = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(defined) + 1))


def sign_flip(differences: Floats, *, clusters: Sequence[str] | None = None, flips: int = 9999, seed: int = 0) -> float:
    """Two-sided p that paired differences [n] have mean zero: their signs are exchanged, by cluster where given.

    All sign patterns for up to 13 units that differ (exact), else `flips` random ones as (b + 1) / (m + 1).
    Source: Fisher 1935; Phipson and Smyth 2010 for the one that is added.
    """
    if clusters is not None:
        unit = np.unique(np.asarray(clusters), return_inverse=True)[1]
        differences = np.bincount(unit, weights=differences).astype(np.float64)
    moved = differences[differences != 0]
    count = len(moved)
    if count == 0:
        return 1.0
    total = float(moved.sum())
    reach = abs(total) - 1e-12 * float(np.abs(moved).sum())  # sums in another order differ in the last bits
    if count <= 13:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float(np.mean(np.abs(total - 2 * (bits @ moved)) >= reach))
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // count)
    as_far = 0
    for start in range(0, flips, block):
        size = min(block, flips - start)
        raw = np.frombuffer(generator.bytes(size * ((count + 7) // 8)), dtype=np.uint8).reshape(size, -1)
        signs = np.unpackbits(raw, axis=1, count=count).astype(np.float64)
        as_far += int((np.abs(total - 2 * (signs @ moved)) >= reach).sum())
    return (as_far + 1) / (flips + 1)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p that two classifiers are right equally often, from the rows that only one of them has right.

    Exact binomial under 25 such rows, else chi-square with one degree of freedom and continuity correction.
    Source: McNemar 1947; Edwards 1948.
    """
    both = only_first + only_second
    if both == 0:
        return 1.0
    if both < 25:
        tail = sum(math.comb(both, i) for i in range(min(only_first, only_second) + 1)) / 2**both
        return min(1.0, 2 * float(tail))
    chi_square = (abs(only_first - only_second) - 1) ** 2 / both if only_first != only_second else 0.0
    return math.erfc(math.sqrt(chi_square / 2))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values that control the chance of any false alarm. Source: Holm 1979."""
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def t_cdf(t: float, degrees: int) -> float:
    """P(T <= t) of Student's t with a whole number of degrees of freedom.

    Source: Abramowitz and Stegun 1964, equations 26.7.3 and 26.7.4.
    """
    assert degrees >= 1
    theta = math.atan(t / math.sqrt(degrees))
    cosine, sine = math.cos(theta), math.sin(theta)
    if degrees % 2:
        term, total = cosine, 0.0
        for j in range(1, degrees - 1, 2):
            total += term
            term *= cosine * cosine * (j + 1) / (j + 2)
        inside = 2 / math.pi * (theta + sine * total)
    else:
        term, total = 1.0, 0.0
        for j in range(0, degrees - 1, 2):
            total += term
            term *= cosine * cosine * (j + 1) / (j + 2)
        inside = sine * total
    return 0.5 + inside / 2


def t_quantile(p: float, degrees: int) -> float:
    """The t with P(T <= t) = p, for p from 0.5 up, by bisection to the last bits."""
    assert 0.5 <= p < 1
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < p:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, degrees) < p else (low, middle)
    return (low + high) / 2
