"""Batches prepared ahead: while one step is computed, a thread packs the rows of the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ..core.contracts import Batch

__all__ = ["Ahead"]


class Ahead:
    """Makes the batches of steps, one step ahead of what is asked for.

    rows_of(step): positions of the rows of a step, from 0 to `total`. make(step, rows, micro_tokens): the step's
    micro-batches, on the device; a pure function, called in a thread of its own. What it raises, `take` raises.
    """

    def __init__(
        self,
        rows_of: Callable[[int], Sequence[int]],
        make: Callable[[int, Sequence[int], int], Sequence[Batch]],
        total: int,
    ) -> None:
        self.rows_of, self.make, self.total = rows_of, make, total
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.foreseen: tuple[Sequence[int], int, Future[Sequence[Batch]]] | None = None

    def take(self, step: int, rows: Sequence[int], micro_tokens: int) -> Sequence[Batch]:
        """The batches of a step's rows, made now if they were not foreseen; then begins on those of the step after."""
        foreseen, self.foreseen = self.foreseen, None
        ready = foreseen is not None and foreseen[:2] == (rows, micro_tokens)
        batches = foreseen[2].result() if foreseen is not None and ready else self.make(step, rows, micro_tokens)
        if step + 1 < self.total:
            after = self.rows_of(step + 1)
            self.foreseen = (after, micro_tokens, self.worker.submit(self.make, step + 1, after, micro_tokens))
        return batches

    def close(self) -> None:
        """Ends the thread, after what it is making."""
        self.worker.shutdown(wait=True, cancel_futures=True)
