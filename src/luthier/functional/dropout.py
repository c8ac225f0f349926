"""Dropout whose random numbers cost little on the CPU: sixteen bits a value instead of a float or a draw of its own.

Source: Srivastava et al. 2014 (JMLR 15), scaled while training. The rate is rounded to a multiple of 2^-16.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

__all__ = ["dropout", "keep_mask"]


def keep_mask(shape: Sequence[int], rate: float, device: torch.device) -> Tensor:
    """[shape] bool: False with probability `rate`. Drawn from torch's default generator of the device."""
    if device.type != "cpu":
        return torch.rand(tuple(shape), device=device) >= rate
    count = prod(shape)
    # A rate next to 1 would round to one, past the greatest number of sixteen bits, which then drops nothing.
    threshold = min(round(rate * 2**16), 2**16 - 1) - 2**15
    # Every bit of a 64-bit draw is random: four values come from one.
    drawn = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return drawn.view(torch.int16)[:count].view(tuple(shape)) >= threshold


def dropout(x: Tensor, rate: float) -> Tensor:
    """x with each value set to zero with probability `rate` (0 to below 1), the others divided by 1 - rate."""
    result: Tensor = _Dropout.apply(x, rate)  # type: ignore[no-untyped-call]
    return result


class _Dropout(torch.autograd.Function):
    """Keeps one byte a value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        kept = keep_mask(x.shape, rate, x.device)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - rate)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (gradients[0] * ctx.saved_tensors[0]).mul_(ctx.scale), None
