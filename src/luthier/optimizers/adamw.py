"""AdamW: Adam with decoupled weight decay, in torch's fused form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from ..core.contracts import Optimizer

if TYPE_CHECKING:
    import torch

__all__ = ["AdamW"]

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Optimizer):
    """lr: peak learning rate; None takes the adaptation's usual one. Moments are float32, as the masters are.

    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2. Errors: none beyond the bounds.
    """

    example: ClassVar[dict[str, Any]] = {"lr": 2e-4, "weight_decay": 0.01}
    lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.0, ge=0, description="share of a matrix that lr * this takes off each step")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay rates of the two moments")
    eps: float = Field(1e-8, gt=0, description="added to the root of the second moment")

    def make(self, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW([dict(group) for group in groups], betas=self.betas, eps=self.eps, fused=True)
