"""Root-mean-square norm in one pass each way, with its backward written by hand.

    y = w * x / sqrt(mean(x^2) + eps)

Source: Zhang and Sennrich 2019 (arXiv:1910.07467, eq. 4). Computed in float32, as transformers does, and rounded before
the weight is applied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["rms_norm"]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[..., H] in x's dtype, for x [..., H] and weight [H] of the same dtype. Once differentiable."""
    if not torch.is_grad_enabled():  # a token at a time, what autograd asks for is a third of the whole
        return _forward(x, weight, eps)[0]
    result: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return result


def _forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """y, and 1 / sqrt(mean(x^2) + eps) of each row."""
    wide = torch.promote_types(x.dtype, torch.float32)
    exact = x.to(wide, copy=True)
    inverse = torch.linalg.vector_norm(exact, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return exact.mul_(inverse).to(x.dtype) * weight, inverse


class _RmsNorm(torch.autograd.Function):
    """Keeps the input as it came and one float32 a row: nothing else of the row is stored in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        output, inverse = _forward(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        given = gradients[0]
        exact = x.to(inverse.dtype, copy=True)
        d_weight = None
        if ctx.needs_input_grad[1]:
            rounded = (exact * inverse).to(x.dtype)
            d_weight = (given * rounded).flatten(0, -2).sum(0, dtype=inverse.dtype).to(weight.dtype)
        d_x = None
        if ctx.needs_input_grad[0]:
            # With s = w dy and r = 1 / rms: dx = r s - r^3 x mean(s x).
            slope = (given * weight).to(inverse.dtype)
            along = (slope * exact).sum(-1, keepdim=True).mul_(inverse.pow(3)).div_(-x.shape[-1])
            d_x = exact.mul_(along).addcmul_(slope, inverse).to(x.dtype)
        return d_x, d_weight, None
