"""A gated feed-forward block as one operation: y = (silu(x G^T) * (x U^T)) D^T.

Of what lies between its layers only x G^T and x U^T are kept: half of what autograd would keep. What their product was
is computed again where the last layer learns, elementwise and thus for little. Source: Shazeer 2020 (arXiv:2002.05202,
eq. 6).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["gated"]


def gated(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """[..., H] for x [..., H], weights gate and up [F, H] and down [H, F], all of one dtype. Once differentiable."""
    if not torch.is_grad_enabled():  # a token at a time, what autograd asks for is a tenth of the whole
        return _forward(x.reshape(-1, x.shape[-1]), gate, up, down)[0].view(x.shape)
    result: Tensor = _Gated.apply(x, gate, up, down)  # type: ignore[no-untyped-call]
    return result


def _forward(flat: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y, x G^T and x U^T."""
    opened, linear = flat @ gate.t(), flat @ up.t()
    return torch.nn.functional.silu(opened).mul_(linear) @ down.t(), opened, linear


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        output, opened, linear = _forward(flat, gate, up, down)
        reads = any(ctx.needs_input_grad[1:3])
        ctx.save_for_backward(flat if reads else None, gate, up, down, opened, linear)
        return output.view(x.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, gate, up, down, opened, linear = ctx.saved_tensors
        for_x, for_gate, for_up, for_down = ctx.needs_input_grad
        given = gradients[0].reshape(-1, gradients[0].shape[-1])
        d_active = given @ down
        active = torch.nn.functional.silu(opened)
        d_linear = active * d_active
        d_down = given.t() @ active.mul_(linear) if for_down else None
        d_opened = torch.ops.aten.silu_backward(d_active.mul_(linear), opened)
        d_gate = d_opened.t() @ flat if for_gate else None
        d_up = d_linear.t() @ flat if for_up else None
        d_x = (d_opened @ gate).addmm_(d_linear, up).view(gradients[0].shape) if for_x else None
        return d_x, d_gate, d_up, d_down
