"""A learning rate that falls in a straight line after a linear warmup."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ..core.contracts import Schedule
from ..functional.schedule import after_warmup, warmup_share

__all__ = ["Linear"]


class Linear(Schedule):
    """From the peak to `floor` times the peak (shares, 0 to 1). warmup: share of the steps.

    Source: Devlin et al. 2019 (arXiv:1810.04805), appendix A.2. Errors: none.
    """

    example: ClassVar[dict[str, Any]] = {"warmup": 0.1, "floor": 0.0}
    warmup: float = Field(0.05, ge=0, lt=1)
    floor: float = Field(0.0, ge=0, le=1)

    def at(self, step: int, total: int) -> float:
        fallen = 1 - (1 - self.floor) * after_warmup(step, total, self.warmup)
        return warmup_share(step, total, self.warmup) * fallen
