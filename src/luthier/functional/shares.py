"""Shares that strata should have of a whole, and whole numbers of rows that come nearest to shares.

Temperature: p ** (1 / T), normalized (Arivazhagan et al. 2019, Massively Multilingual Neural Machine Translation in the
Wild, section 4; T = 5 there). Effective number of samples: Cui et al. 2019, Class-Balanced Loss, equation 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["apportioned", "effective_shares", "given_shares", "largest_size", "temperature_shares"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def temperature_shares(counts: Ints, temperature: float | None) -> Floats:
    """[s] shares in proportion to counts ** (1 / temperature): 1 leaves them as they are, None makes them equal."""
    powers = np.ones(len(counts)) if temperature is None else counts.astype(np.float64) ** (1 / temperature)
    shares: Floats = powers / powers.sum()
    return shares


def effective_shares(counts: Ints, beta: float) -> Floats:
    """[s] shares in the loss when a row of a stratum of n rows weighs (1 - beta) / (1 - beta ** n).

    beta = 0 leaves the shares as they are, beta towards 1 makes them equal.
    """
    of_row = (1 - beta) / -np.expm1(counts * np.log(beta)) if beta > 0 else np.ones(len(counts))
    total = counts * of_row
    shares: Floats = total / total.sum()
    return shares


def given_shares(names: Sequence[str], counts: Ints, given: Mapping[str, float]) -> Floats:
    """[s] the shares given by name; strata that are not named share what is left, in proportion to their counts.

    Where all are named the shares are scaled to a sum of 1. Errors: ValueError where they leave less than nothing.
    """
    named = np.array([name in given for name in names])
    shares = np.array([given.get(name, 0.0) for name in names])
    left = 1 - shares.sum()
    if left < -1e-9:
        raise ValueError(f"the shares are {shares.sum():g} together")
    rest = np.where(named, 0, counts)
    if rest.sum():
        shares = shares + max(left, 0.0) * rest / rest.sum()
    if not shares.sum():
        raise ValueError("every share is 0")
    result: Floats = shares / shares.sum()
    return result


def largest_size(counts: Ints, shares: Floats) -> int:
    """The most rows that can be taken from strata of these counts without missing these shares, but for rounding."""
    asked = shares > 0
    return int(np.floor((counts[asked] / shares[asked]).min() + 1e-9))


def apportioned(size: int, counts: Ints, shares: Floats) -> Ints:
    """[s] rows to take: `size` together (or all there are), as near to the shares as the counts allow.

    A stratum that has fewer than its share gives all, and the others make up for it in proportion. What is left of
    rounding goes to the largest remainders (Hamilton), the first of equal ones.
    """
    size = min(size, int(counts[shares > 0].sum()))
    full = np.zeros(len(counts), bool)
    quotas = np.zeros(len(counts))
    while True:
        open_ = ~full & (shares > 0)
        quotas[full] = counts[full]
        left = size - counts[full].sum()
        if open_.any():
            quotas[open_] = left * shares[open_] / shares[open_].sum()
        over = open_ & (quotas > counts)
        if not over.any():
            break
        full |= over
    taken = np.floor(quotas + 1e-9).astype(np.int64)
    order = np.argsort(-(quotas - taken), kind="stable")
    for place in order[taken[order] < counts[order]][: size - int(taken.sum())]:
        taken[place] += 1
    return taken
