"""A learning rate that falls along half a cosine after a linear warmup."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import Field

from ..core.contracts import Schedule
from ..functional.schedule import after_warmup, warmup_share

__all__ = ["Cosine"]


class Cosine(Schedule):
    """From the peak to `floor` times the peak (shares, 0 to 1). warmup: share of the steps.

    Source: Loshchilov and Hutter 2017 (arXiv:1608.03983), equation 5, one cycle. Errors: none.
    """

    example: ClassVar[dict[str, Any]] = {"warmup": 0.05, "floor": 0.1}
    warmup: float = Field(0.05, ge=0, lt=1)
    floor: float = Field(0.0, ge=0, le=1)

    def at(self, step: int, total: int) -> float:
        share = after_warmup(step, total, self.warmup)
        fallen = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share))
        return warmup_share(step, total, self.warmup) * fallen
