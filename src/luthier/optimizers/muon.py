"""Muon: momentum whose matrices are orthogonalized, for hidden layers; AdamW for everything else.

A hidden matrix moves by U V^T of its momentum U S V^T: every direction as far as any other. Newton and Schulz's
iteration gives it without a decomposition, in products of bf16. Embeddings, output layers, heads and vectors move as
under AdamW.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/
muon), with the update's size by Liu et al. 2025 (arXiv:2502.16982, equation 4): 0.2 sqrt(max(rows, columns)) gives it
the root mean square that AdamW's has, so that one rate and one decay serve both. Errors: none beyond the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from ..core.contracts import Optimizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Muon"]

Beta = Annotated[float, Field(ge=0, lt=1)]
ADAMW_SIZE = 0.2
"""Root mean square of an AdamW step at rate 1, as measured by the second source."""


class Muon(Optimizer):
    """lr: peak learning rate, on AdamW's scale; None takes the adaptation's usual one."""

    example: ClassVar[dict[str, Any]] = {"lr": 1e-3, "weight_decay": 0.1}
    lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.0, ge=0, description="share of a matrix that lr * this takes off each step")
    momentum: Beta = Field(0.95, description="share of the running mean that stays at each step (hidden matrices)")
    nesterov: bool = Field(True, description="the gradient is mixed into the momentum once more (hidden matrices)")
    rounds: int = Field(5, ge=1, le=20, description="rounds of the orthogonalization")
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="decay rates of AdamW's moments (everything else)")
    eps: float = Field(1e-8, gt=0, description="added to the root of AdamW's second moment (everything else)")

    def make(self, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
        import torch
        from torch.optim.adamw import adamw

        from ..functional.orthogonal import orthogonalized

        class MuonAndAdamW(torch.optim.Optimizer):
            """Moves hidden matrices by `turn` and the rest of each group by torch's fused AdamW."""

            @torch.no_grad()
            def step(self, closure: Any = None) -> None:  # type: ignore[override]
                assert closure is None
                for group in self.param_groups:
                    moving = [p for p in group["params"] if p.grad is not None]
                    hidden = group.get("hidden", frozenset())
                    for weight in moving:
                        if weight in hidden:
                            turn(weight, self.state[weight], group)
                    adapt([p for p in moving if p not in hidden], self.state, group)

        def turn(weight: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(weight)
            assert weight.grad is not None
            mean = state["momentum"].lerp_(weight.grad, 1 - self.momentum)
            update = weight.grad.lerp(mean, self.momentum) if self.nesterov else mean
            size = ADAMW_SIZE * math.sqrt(max(weight.shape))
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(orthogonalized(update, self.rounds), alpha=-group["lr"] * size)

        def adapt(weights: list[Tensor], state: Mapping[Any, dict[str, Any]], group: Mapping[str, Any]) -> None:
            for weight in weights:
                if "step" not in state[weight]:
                    state[weight]["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
                    state[weight]["exp_avg"] = torch.zeros_like(weight)
                    state[weight]["exp_avg_sq"] = torch.zeros_like(weight)
            if not weights:
                return
            adamw(
                weights,
                [weight.grad for weight in weights],  # type: ignore[misc]
                [state[weight]["exp_avg"] for weight in weights],
                [state[weight]["exp_avg_sq"] for weight in weights],
                [],
                [state[weight]["step"] for weight in weights],
                fused=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=self.eps,
                maximize=False,
            )

        return MuonAndAdamW([dict(group) for group in groups], {"fused": True})
