"""SGD: stochastic gradient descent, with momentum and L2 weight decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from ..core.contracts import Optimizer
from ..core.errors import Problem
from ..core.problems import refused

if TYPE_CHECKING:
    import torch

__all__ = ["SGD"]


class SGD(Optimizer):
    """lr: peak learning rate; None takes the adaptation's usual one, which is meant for AdamW: name your own.

    Source: Sutskever et al. 2013 for the momentum forms. Errors: Nesterov without momentum is refused.
    """

    example: ClassVar[dict[str, Any]] = {"lr": 0.01, "momentum": 0.9}
    lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.0, ge=0, description="times the weights, added to the gradient")
    momentum: float = Field(0.0, ge=0, lt=1, description="share of the last step's direction that is kept")
    nesterov: bool = Field(False, description="the gradient is taken ahead, where momentum leads")

    @model_validator(mode="after")
    def _nesterov(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            found = "nesterov needs a momentum to look ahead along, and there is none"
            raise refused(Problem(found, expected="a momentum above 0", remedy="momentum: 0.9, or nesterov: false"))
        return self

    def make(self, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(
            [dict(group) for group in groups], momentum=self.momentum, nesterov=self.nesterov, fused=True
        )
