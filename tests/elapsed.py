"""Bounds on the time of a piece of work, for tests of its growth."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def takes_less_than(limit: float, work: Callable[[], Any], tries: int = 3) -> bool:
    """Whether the work takes less than `limit` processor seconds in one of a few tries.

    The collector, another test's threads or a slow moment of the machine fall on one try; a cost that grows wrongly
    falls on all.
    """
    for _ in range(tries):
        started = time.process_time()
        work()
        if time.process_time() - started < limit:
            return True
    return False
