"""How an error falls with the number of rows: a power law fitted to a learning curve, and how sure it is.

error(n) = floor + scale * n ** -rate, with floor, scale >= 0. Source: Hestness et al. 2017 (arXiv:1712.00409), section
2; fitting such curves to foretell what more rows bring: Cortes et al. 1993. The fit minimizes relative deviations, so
that large errors of few rows do not outweigh what is to be continued. Intervals are the bootstrap's, over draws of rows
and over the rows that are measured on at once, each draw's subsets together, since they are nested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PowerLaws", "fit_power_laws", "resampled_errors"]

Floats = NDArray[np.float64]
_RATES = np.linspace(0.05, 2.0, 196)
_SMALL = 1e-4
"""Errors below it are weighed as this one: a relative deviation from nothing has no meaning."""


@dataclass(frozen=True)
class PowerLaws:
    """[m] laws error(n) = floor + scale * n ** -rate."""

    floor: Floats
    scale: Floats
    rate: Floats

    def at(self, rows: float) -> Floats:
        """[m] the errors at so many rows."""
        found: Floats = self.floor + self.scale * float(rows) ** -self.rate
        return found


def fit_power_laws(rows: Sequence[int], errors: Floats) -> PowerLaws:
    """For each of [m, k] errors at rows [k], k of 3 or more, the law with the smallest squared relative deviations.

    For each rate of a grid the other two are solved for; a floor or scale below zero is held at zero.
    """
    assert errors.ndim == 2
    assert errors.shape[1] == len(rows) >= 3
    weight = np.maximum(errors, _SMALL) ** -2  # [m, k]
    falls = np.asarray(rows, np.float64)[None] ** -_RATES[:, None]  # [r, k]
    whole, one, two = weight.sum(1)[:, None], weight @ falls.T, weight @ (falls**2).T  # [m, r]
    plain, mixed = (weight * errors).sum(1)[:, None], (weight * errors) @ falls.T
    apart = np.maximum(whole * two - one**2, np.finfo(np.float64).tiny)
    floor, scale = (two * plain - one * mixed) / apart, (whole * mixed - one * plain) / apart
    level, steep = scale < 0, floor < 0
    floor = np.where(level, plain / whole, np.where(steep, 0.0, floor))
    scale = np.where(level, 0.0, np.where(steep, mixed / two, scale))
    deviation = (
        (weight * errors**2).sum(1)[:, None] - 2 * (floor * plain + scale * mixed)
        + floor**2 * whole + 2 * floor * scale * one + scale**2 * two
    )  # fmt: skip
    best = deviation.argmin(axis=1)
    at = np.arange(len(errors))
    return PowerLaws(floor[at, best], scale[at, best], _RATES[best])


def resampled_errors(right: NDArray[np.bool_], resamples: int, seed: int) -> Floats:
    """[resamples, k] errors of a draw of rows, drawn, over measured rows that are drawn with replacement.

    One draw and not a mean of several: who labels more rows gets one draw of them. right: [draws, k, m] whether row m
    was got right by what draw and size gave.
    """
    draws, _, measured = right.shape
    generator = np.random.default_rng([seed, 31])
    found = []
    for _ in range(resamples):
        counts = np.bincount(generator.integers(0, measured, measured), minlength=measured).astype(np.float32)
        found.append(1 - right[generator.integers(0, draws)] @ counts / measured)
    return np.array(found, dtype=np.float64)
