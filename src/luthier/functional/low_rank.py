"""Low-rank changes of linear layers: the layer with its change as one operation, and norms from the factors.

Source: Hu et al. 2022 (arXiv:2106.09685, section 4.1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .dropout import keep_mask
from .quantized import Quantized, dense

__all__ = ["low_rank_linear", "orthonormal_factors", "principal_factors", "squared_norm_of_change"]


def low_rank_linear(
    x: Tensor,
    weight: Tensor | Quantized,
    bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """x W^T + bias + scale * drop(x) A^T B^T, with W and the bias frozen.

    x [..., in], weight [out, in], bias [out], down A [r, in], up B [out, r]; gives [..., out] in x's dtype. Products
    are in x's dtype (accumulated by the kernels in float32); gradients of A and B come in the dtype of A and B.
    dropout: on the change's input, scaled by 1 / (1 - dropout); the caller passes 0 outside training. Once
    differentiable. A quantized W is dense while a product is made of it, and what is kept are its codes.
    """
    result: Tensor = _LowRankLinear.apply(x, weight, bias, down, up, scale, dropout)  # type: ignore[no-untyped-call]
    return result


class _LowRankLinear(torch.autograd.Function):
    """Keeps the input and its r-wide image: no gradient of what is frozen, no copy of the input in another dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        frozen: Tensor | Quantized,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        dropout: float,
    ) -> Tensor:
        flat, weight = x.reshape(-1, x.shape[-1]), dense(frozen, x.dtype)
        narrow, wide = down.to(x.dtype), (up * scale).to(x.dtype)
        kept = keep_mask(flat.shape, dropout, x.device) if dropout > 0 else None
        fed = flat if kept is None else (flat * kept).div_(1 - dropout)
        image = fed @ narrow.t()
        output = flat @ weight.t() if bias is None else torch.addmm(bias, flat, weight.t())
        output.addmm_(image, wide.t())
        ctx.save_for_backward(fed, image, narrow, wide, *([] if kept is None else [kept]))
        ctx.frozen, ctx.scale, ctx.dropout, ctx.dtypes = frozen, scale, dropout, (down.dtype, up.dtype)
        return output.view(*x.shape[:-1], output.shape[-1])  # of no tokens, -1 would not tell the width

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        fed, image, narrow, wide, *rest = ctx.saved_tensors
        given = gradients[0]
        flat = given.reshape(-1, given.shape[-1])
        inner = flat @ wide  # d image
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = flat @ dense(ctx.frozen, flat.dtype)
            if rest:
                d_x += (inner @ narrow).mul_(rest[0]).div_(1 - ctx.dropout)
            else:
                d_x.addmm_(inner, narrow)
            d_x = d_x.view(*given.shape[:-1], d_x.shape[-1])
        # Two narrow factors are cheapest with the long one last; B's gradient is then turned over.
        d_down = (inner.t() @ fed).to(ctx.dtypes[0]) if ctx.needs_input_grad[3] else None
        d_up = None
        if ctx.needs_input_grad[4]:
            d_up = (image.t() @ flat).t().to(ctx.dtypes[1], memory_format=torch.contiguous_format).mul_(ctx.scale)
        return d_x, None, None, d_down, d_up, None, None


def squared_norm_of_change(up: Tensor, down: Tensor, up_before: Tensor, down_before: Tensor) -> Tensor:
    """||B A - B0 A0||^2 (Frobenius), with B [out, r], A [r, in]: r x r products instead of out x in ones.

    <B A, C D> = tr((B A)^T C D) = sum(B^T C * A D^T), hence ||BA||^2 - 2 <BA, B0 A0> + ||B0 A0||^2. Exact where B0 is
    zero; else rounding is relative to the norms of the two products and not of their difference.
    """

    def inner(b: Tensor, a: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return ((b.mT @ c) * (a @ d.mT)).sum()

    return (
        inner(up, down, up, down)
        - 2 * inner(up, down, up_before, down_before)
        + inner(up_before, down_before, up_before, down_before)
    )


def principal_factors(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A [r, in] and B [out, r] with scale * B A the best matrix of that rank to stand for `weight` [out, in].

    Both get the root of a singular value. Source: Meng et al. 2024 (arXiv:2404.02948, equations 2 and 3). Where the
    rank is under a quarter of the smaller side, singular vectors come from 16 subspace iterations on twice the rank
    (Halko et al. 2011, arXiv:0909.4061, algorithm 4.4), which begin in torch's random numbers.
    """
    if 4 * rank < min(weight.shape):
        left, values, right = torch.svd_lowrank(weight, q=2 * rank, niter=16)
    else:
        left, values, turned = torch.linalg.svd(weight, full_matrices=False)
        right = turned.t()
    roots = (values[:rank] / scale).sqrt()
    return (right[:, :rank] * roots).t().contiguous(), left[:, :rank] * roots


def orthonormal_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A [r, in] and B [out, r], the first rows of R and columns of Q in `weight` [out, in] = Q R.

    Source: Buyukakyuz 2024 (OLoRA, arXiv:2406.01775).
    """
    unitary, triangular = torch.linalg.qr(weight)
    return triangular[:rank].contiguous(), unitary[:, :rank].contiguous()
