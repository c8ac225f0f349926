"""A gated feed-forward block whose three frozen layers carry low-rank changes, as one operation.

    y = D(silu(G(x)) * U(x)),  each of G, U, D of the form  L(x) = x W^T + scale * x A^T B^T

Of what lies between its layers only G(x) and U(x) are kept: half of what autograd would keep, in the same time.
Source: Shazeer 2020 (arXiv:2002.05202, eq. 6) with Hu et al. 2022 (arXiv:2106.09685, section 4.1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .quantized import Quantized, dense

__all__ = ["LowRank", "low_rank_gated"]


class LowRank(NamedTuple):
    """A frozen layer and its change: weight W [out, in], down A [r, in], up B [out, r]."""

    weight: Tensor | Quantized
    down: Tensor
    up: Tensor
    scale: float


def low_rank_gated(x: Tensor, gate: LowRank, up: LowRank, down: LowRank) -> Tensor:
    """[..., H] for x [..., H], in x's dtype; products are in that dtype, gradients of A and B in the dtype of A and B.

    Once differentiable; the three weights get no gradient.
    """
    parts = (gate, up, down)
    changes = [matrix for part in parts for matrix in (part.down, part.up)]
    weights, scales = [part.weight for part in parts], tuple(part.scale for part in parts)
    result: Tensor = _LowRankGated.apply(x, *weights, *changes, scales)  # type: ignore[no-untyped-call]
    return result


class _LowRankGated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        *given, scales = rest
        frozen, changes = given[:3], given[3:]
        gate, up, down = (dense(weight, x.dtype) for weight in frozen)
        flat = x.reshape(-1, x.shape[-1])
        narrow = [matrix.to(x.dtype) for matrix in changes[0::2]]
        wide = [(matrix * scale).to(x.dtype) for matrix, scale in zip(changes[1::2], scales, strict=True)]
        # The two layers that read x share the product with their narrow factors.
        both = torch.cat(narrow[:2])
        image = flat @ both.t()
        cut = len(narrow[0])
        gated = (flat @ gate.t()).addmm_(image[:, :cut], wide[0].t())
        linear = (flat @ up.t()).addmm_(image[:, cut:], wide[1].t())
        active = torch.nn.functional.silu(gated).mul_(linear)
        last = active @ narrow[2].t()
        output = (active @ down.t()).addmm_(last, wide[2].t())
        ctx.save_for_backward(flat, both, narrow[2], *wide, image, gated, linear, last)
        ctx.frozen, ctx.scales, ctx.dtypes = frozen, scales, [matrix.dtype for matrix in changes]
        return output.view(x.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, both, last_narrow, *wide, image, gated, linear, last = ctx.saved_tensors
        gate, up, down = (dense(weight, flat.dtype) for weight in ctx.frozen)
        given = gradients[0].reshape(-1, gradients[0].shape[-1])
        cut = wide[0].shape[1]
        inner_last = given @ wide[2]
        d_active = (given @ down).addmm_(inner_last, last_narrow)
        active = torch.nn.functional.silu(gated)
        d_linear = active * d_active
        active.mul_(linear)
        d_narrow_last = inner_last.t() @ active
        d_gated = torch.ops.aten.silu_backward(d_active.mul_(linear), gated)
        inner = torch.cat([d_gated @ wide[0], d_linear @ wide[1]], dim=1)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = (d_gated @ gate).addmm_(d_linear, up).addmm_(inner, both).view(gradients[0].shape)
        d_both = inner.t() @ flat
        d_wide = (image[:, :cut].t() @ d_gated, image[:, cut:].t() @ d_linear, last.t() @ given)
        d_narrow = (d_both[:cut], d_both[cut:], d_narrow_last)
        changes = []
        for at, (low, high) in enumerate(zip(d_narrow, d_wide, strict=True)):
            changes.append(low.to(ctx.dtypes[2 * at]))
            # Two narrow factors are cheapest with the long one last; B's gradient is then turned over.
            turned = high.t().to(ctx.dtypes[2 * at + 1], memory_format=torch.contiguous_format)
            changes.append(turned.mul_(ctx.scales[at]))
        return d_x, None, None, None, *changes, None
