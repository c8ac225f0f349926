"""A constant learning rate after an optional linear warmup."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ..core.contracts import Schedule
from ..functional.schedule import warmup_share

__all__ = ["Constant"]


class Constant(Schedule):
    """The peak rate throughout. warmup: share of the steps (unit: 0 to 1) over which it rises from zero.

    Source: the usual baseline; linear warmup after Goyal et al. 2017 (arXiv:1706.02677). Errors: none.
    """

    example: ClassVar[dict[str, Any]] = {"warmup": 0.05}
    warmup: float = Field(0.0, ge=0, le=1)

    def at(self, step: int, total: int) -> float:
        return warmup_share(step, total, self.warmup)
