"""The order of the data: which rows an optimizer step sees, as a pure function of the step's number.

Each epoch is a permutation drawn from (seed, epoch), of rows that come once or as often as they are to be repeated.
Steps take whole rows from it until the budget is full; the last step of an epoch is as full as what is left. Nothing is
remembered between steps, so resuming is naming the next step.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.contracts import Ints
from ..core.errors import DataError
from ..core.recipe import PerStep

__all__ = ["Stream"]


class Stream:
    """Rows of length `lengths` [n] in tokens, `per_step` of them a step, in an order drawn from `seed`.

    repeats [n]: how often each row comes in an epoch (None: once). Of rows with a part left over (0.25 of 1.25) so many
    come once more as the parts add up to, others in each epoch. Errors: DataError where there is nothing to draw from.
    """

    def __init__(
        self, lengths: Sequence[int], per_step: PerStep, seed: int, repeats: Sequence[float] | None = None
    ) -> None:
        self._lengths: Ints = np.asarray(lengths, dtype=np.int64)
        self._per_step = per_step
        self._seed = seed
        self._repeats = None if repeats is None or set(repeats) == {1.0} else np.asarray(repeats, dtype=np.float64)
        if not len(self._lengths):
            raise DataError(
                "there is nothing to train on: not one row",
                where="data.train",
                expected="rows that survive preparation and encoding",
                remedy="`luthier plan` shows what was dropped and why",
            )
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

        def drawn(count: int) -> Ints:
            keys: NDArray[np.uint64] = bits.random_raw(count)
            order: Ints = np.argsort(keys, kind="stable")
            return order

        if self._repeats is None:
            return drawn(len(self._lengths))
        every = np.repeat(np.arange(len(self._lengths)), self._copies(drawn(len(self._lengths)), bits))
        return every[drawn(len(every))]

    def _copies(self, order: Ints, bits: np.random.PCG64) -> Ints:
        """[n] how often each row comes in an epoch: what is left over of the repeats is dealt out along `order`."""
        assert self._repeats is not None
        copies = np.floor(self._repeats).astype(np.int64)
        begin = int(bits.random_raw()) / 2**64
        reached = np.floor(np.cumsum((self._repeats - copies)[order]) + begin).astype(np.int64)
        copies[order] += np.diff(reached, prepend=0)
        if not copies.any():
            copies[order[0]] = 1  # an epoch has a row
        return copies

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
