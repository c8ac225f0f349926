"""Two workers for the two halves of a micro-batch, on a CPU of several cores.

An operation on all cores ends when its slowest core does, and short ones spend a good part of their time on meeting.
Halves that are computed side by side, each on half of the cores, meet once: docs/benchmarks.md says what it gains.
Each half has gradients of its own, which are added in order, so that bits repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Barrier
from typing import TypeVar

import torch

from ..core.contracts import Batch, Models, Objective, Row
from ..models.attention import transformer_of
from .draws import draws

__all__ = ["Crew", "crew_at", "halves", "pays"]

Result = TypeVar("Result")

_LEAST = 0.4
"""What the smaller half must have of the tokens; one long sequence is better computed on all cores."""
_NARROWEST = 320
"""The hidden size from which it pays. Python hands out operations of two workers one at a time: below, they are so
short that the workers wait for it (4,096 tokens on two cores: 256 wide 7 % slower, 320 wide 24 % faster)."""


class Crew:
    """Two threads with half of torch's threads each."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2, "crew")
        threads = torch.get_num_threads()
        met = Barrier(2)

        def begin() -> None:
            met.wait()  # so that each of the two threads takes one of the two calls
            # The first question makes torch give a new thread as many as all have, which would undo what is set.
            torch.get_num_threads()
            torch.set_num_threads(max(1, threads // 2))

        wait([self._pool.submit(begin) for _ in range(2)])
        torch.set_num_threads(threads)  # what threads that come later get

    def map(self, work: Callable[[Batch], Result], parts: Sequence[Batch]) -> list[Result]:
        """Each part's result, in order. What a worker raises is raised here, once no other works any more."""
        running = [self._pool.submit(work, part) for part in parts]
        wait(running)
        return [future.result() for future in running]

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()


def pays(objective: Objective, models: Models, rows: Sequence[Row]) -> bool:
    """Whether two workers are allowed and faster than one, with the model as it is: in training.

    They are not allowed where a loss draws random numbers, which two would draw in an order of their own.
    """
    policy = models.policy
    if not (objective.side_by_side and policy.packed and torch.get_num_threads() > 1):
        return False
    width = int(getattr(transformer_of(policy.model).config.get_text_config(), "hidden_size", 0))
    if width < _NARROWEST or next(policy.model.parameters()).device.type != "cpu":
        return False
    return not draws(objective, models, min(rows, key=lambda row: len(row.ids)))


@contextmanager
def crew_at(wanted: bool) -> Iterator[Crew | None]:
    """A crew, where it is wanted, that ends with the context."""
    if not wanted:
        yield None
        return
    crew = Crew()
    try:
        yield crew
    finally:
        crew.close()


def halves(batch: Batch) -> list[Batch]:
    """The batch cut between two sequences, so that both parts have about as many tokens; whole where none is near."""
    starts = batch.starts.tolist()
    total = starts[-1]
    at = min(range(len(starts)), key=lambda number: abs(2 * starts[number] - total))
    if min(starts[at], total - starts[at]) < _LEAST * total:
        return [batch]
    return [_part(batch, 0, at), _part(batch, at, len(starts) - 1)]


def _part(batch: Batch, first: int, end: int) -> Batch:
    """The sequences [first, end)."""
    low, high = (int(batch.starts[number]) for number in (first, end))
    return Batch(
        ids=batch.ids[low:high],
        starts=batch.starts[first : end + 1] - low,
        positions=batch.positions[low:high],
        supervised=batch.supervised[low:high],
        rows=batch.rows[first:end],
        weights=batch.weights[first:end],
        fields={name: values[first:end] for name, values in batch.fields.items()},
        groups={name: values[first:end] for name, values in batch.groups.items()},
    )
