"""The size at which a side is fastest, found by doubling and halving: the best is never one at the edge of a list."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["best_size"]


def best_size(start: int, seconds: Callable[[int], float], allowed: Callable[[int], bool]) -> int:
    """The size of least `seconds`, from `start` on by doubling or halving.

    A size is the best only once its double and its half have been tried too, or are not allowed (below 1 none is).
    """
    tried = {start: seconds(start)}
    while True:
        best = min(tried, key=lambda size: tried[size])
        untried = [size for size in (best * 2, best // 2) if size and size not in tried and allowed(size)]
        if not untried:
            return best
        tried[untried[0]] = seconds(untried[0])
