"""A learning rate that rises, stays at its peak, and falls at the end."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from ..core.contracts import Schedule
from ..core.errors import Problem
from ..core.problems import refused
from ..functional.schedule import warmup_share

__all__ = ["WarmupStableDecay"]


class WarmupStableDecay(Schedule):
    """Warmup, a plateau, and a linear fall over the last `decay` of the steps to `floor` (all shares, 0 to 1).

    Source: Hu et al. 2024 (MiniCPM, arXiv:2404.06395), section 4; linear fall after Hägele et al. 2024
    (arXiv:2405.18392). Errors: none.
    """

    example: ClassVar[dict[str, Any]] = {"warmup": 0.02, "decay": 0.2, "floor": 0.0}
    warmup: float = Field(0.02, ge=0, lt=1, description="share of the steps over which the rate rises")
    decay: float = Field(0.2, gt=0, le=1)
    floor: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _room(self) -> WarmupStableDecay:
        if self.warmup + self.decay > 1:
            found = f"a warmup of {self.warmup:g} and a decay of {self.decay:g} are more than the whole phase"
            raise refused(Problem(found, expected="shares that sum to at most 1", remedy="shorten one of the two"))
        return self

    def at(self, step: int, total: int) -> float:
        # One step at least comes before the fall: a run of a single step would otherwise train at the floor.
        falling = min(max(1, round(self.decay * total)), total - 1)
        fallen = min(1.0, max(0, step + 1 - (total - falling)) / max(1, falling))
        return warmup_share(step, total, self.warmup) * (1 - (1 - self.floor) * fallen)
