"""The order of the data: which rows an optimizer step sees, as a pure function of the step's number.

Each epoch is a permutation drawn from (seed, epoch). Steps take whole rows from it until the budget is full; the last
step of an epoch is as full as what is left. Nothing is remembered between steps, so resuming is naming the next step.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.contracts import Ints
from ..core.errors import DataError
from ..core.recipe import PerStep

__all__ = ["Stream", "micro_batches"]


class Stream:
    """Rows of length `lengths` [n] in tokens, `per_step` of them a step, in an order drawn from `seed`.

    `weights` [n]: how often a row comes in an epoch (2: twice; 0.5: in every other epoch on average); default once.
    Errors: DataError where there is nothing to draw from.
    """

    def __init__(
        self, lengths: Sequence[int], per_step: PerStep, seed: int, weights: Sequence[float] | None = None
    ) -> None:
        self._lengths: Ints = np.asarray(lengths, dtype=np.int64)
        self._weights = None if weights is None else np.asarray(weights, dtype=np.float64)
        self._per_step = per_step
        self._seed = seed
        total = float(len(self._lengths) if self._weights is None else self._weights.sum())
        if total < 1:
            raise DataError(
                "there is nothing to train on: less than one row an epoch",
                where="data.train",
                expected="rows that survive preparation and encoding, with weights that sum to at least 1",
                remedy="`luthier plan` shows what was dropped and why",
            )
        if self._weights is not None and len(self._weights) != len(self._lengths):
            raise ValueError(f"{len(self._weights)} weights for {len(self._lengths)} rows")
        self._ends: list[int] = []  # the first step after each epoch planned so far
        self._planned: dict[int, tuple[Ints, list[int]]] = {}  # the epochs planned last: their order, their bounds

    def rows_of(self, step: int) -> list[int]:
        """Indices of the rows that step `step` (from 0) sees, in order."""
        epoch = self.epoch_of(step)
        order, bounds = self._plan(epoch)
        local = step - self._first(epoch)
        rows: list[int] = order[bounds[local] : bounds[local + 1]].tolist()
        return rows

    def epoch_of(self, step: int) -> int:
        """The epoch (from 0) that step `step` belongs to."""
        if step < 0:
            raise ValueError(f"step {step} is below zero")
        while not self._ends or self._ends[-1] <= step:
            self._extend()
        return bisect_right(self._ends, step)

    def steps_in(self, epochs: float) -> int:
        """Steps in so many epochs: whole ones, then that share of the next one's steps, rounded up; at least 1."""
        whole = math.floor(epochs + 1e-9)
        share = max(0.0, epochs - whole)
        while len(self._ends) <= whole:
            self._extend()
        first = self._first(whole)
        return max(1, first + math.ceil(share * (self._ends[whole] - first) - 1e-9))

    def state(self) -> dict[str, Any]:
        """What the order depends on, as plain JSON values; a checkpoint keeps it beside the step's number."""
        digest = hashlib.sha256(self._lengths.astype("<i8").tobytes())
        if self._weights is not None:
            digest.update(self._weights.astype("<f8").tobytes())
        return {
            "rows": len(self._lengths),
            "digest": digest.hexdigest(),
            "per_step": self._per_step.model_dump(),
            "seed": self._seed,
        }

    def check(self, state: Mapping[str, Any]) -> None:
        """Refuses to go on in another order than the one that was begun. Errors: DataError naming what changed."""
        now = self.state()
        names = {"rows": "the number of rows", "digest": "the rows' lengths or weights"}
        changed = [names.get(key, key) for key in now if now[key] != state.get(key)]
        if changed:
            raise DataError(
                "the order of the data cannot be continued: " + " and ".join(changed) + " changed",
                where="the phase's checkpoint",
                expected=f"{state.get('rows')} rows, per_step {state.get('per_step')}, seed {state.get('seed')}",
                remedy="restore the data and the recipe, or start the phase afresh in another run folder",
            )

    # ---- planning --------------------------------------------------------------------------------------------------

    def _first(self, epoch: int) -> int:
        return self._ends[epoch - 1] if epoch else 0

    def _extend(self) -> None:
        epoch = len(self._ends)
        self._ends.append(self._first(epoch) + len(self._plan(epoch)[1]) - 1)

    def _plan(self, epoch: int) -> tuple[Ints, list[int]]:
        """The epoch's row indices in order, and the bounds of its steps in them."""
        if epoch not in self._planned:
            while len(self._planned) > 1:
                del self._planned[min(self._planned)]
            order = self._order(epoch)
            self._planned[epoch] = order, self._bounds(self._lengths[order])
        return self._planned[epoch]

    def _order(self, epoch: int) -> Ints:
        # Raw bits of PCG64 and a stable sort: unlike Generator.permutation, numpy promises that these never change.
        bits = np.random.PCG64(np.random.SeedSequence([self._seed % 2**64, epoch]))
        rows = np.arange(len(self._lengths), dtype=np.int64)
        if self._weights is not None:
            lot = bits.random_raw(len(rows)) / 2.0**64
            times = np.floor(self._weights) + (lot < self._weights % 1)
            rows = np.repeat(rows, times.astype(np.int64))
        keys: NDArray[np.uint64] = bits.random_raw(len(rows))
        order: Ints = rows[np.argsort(keys, kind="stable")]
        return order

    def _bounds(self, lengths: Ints) -> list[int]:
        if self._per_step.rows is not None:
            return [*range(0, len(lengths), self._per_step.rows), len(lengths)]
        assert self._per_step.tokens is not None
        ends = np.cumsum(lengths)
        bounds = [0]
        while bounds[-1] < len(lengths):
            begin = bounds[-1]
            used = int(ends[begin - 1]) if begin else 0
            end = int(np.searchsorted(ends, used + self._per_step.tokens, side="right"))
            bounds.append(max(end, begin + 1))
        return bounds


def micro_batches(indices: Sequence[int], lengths: Sequence[int], micro_tokens: int) -> list[list[int]]:
    """A step's rows cut, in order, into runs of at most `micro_tokens` tokens; a longer row is a run of its own."""
    runs: list[list[int]] = []
    room = 0
    for index in indices:
        if not runs or lengths[index] > room:
            runs.append([])
            room = micro_tokens
        runs[-1].append(index)
        room -= lengths[index]
    return runs
