"""Frozen matrices in eight or four bits a number, which are made dense again where a product needs them.

    int8    a row's largest magnitude is 127 steps:      W = scale * code, a float32 scale for each row
    int4    32 neighbors of a row share a scale:          W = scale * (code - 8), two codes a byte, bfloat16 scales

The scale of a group of four-bit numbers has the sign that puts its largest number at -8 steps, the one code that has no
partner on the other side (the format Q4_0 of llama.cpp, github.com/ggml-org/llama.cpp). Of the shapes at 4.5 bits a
number that were held beside each other on the embedded model's matrices it strays least: 0.086 of the weights' size;
NF4 (Dettmers et al. 2023, arXiv:2305.14314) with 32 a scale 0.087, with 64 a scale, 4.25 bits, 0.092; int8 0.007.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Bits", "Quantized", "dense", "quantize", "quantized_linear"]

Bits = Literal["int8", "int4"]
GROUP = 32


@dataclass(frozen=True)
class Quantized:
    """A matrix [out, in] in few bits.

    codes: int8 [out, in], or uint8 [out, groups * 16] where the lower half of a byte comes first.
    scales: float32 [out, 1], or bfloat16 [out, groups]. width: in.
    """

    codes: Tensor
    scales: Tensor
    width: int

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix [out, in] that the codes stand for: exact in float32, else rounded once."""
        if self.codes.dtype == torch.int8:
            return (self.codes * self.scales).to(dtype)
        halves = torch.stack((self.codes & 15, self.codes >> 4), dim=-1).view(torch.int8).sub_(8)
        grouped = halves.view(*self.scales.shape, GROUP).to(dtype) * self.scales.to(dtype).unsqueeze(-1)
        return grouped.flatten(1)[:, : self.width]


def dense(weight: Tensor | Quantized, dtype: torch.dtype) -> Tensor:
    """The matrix itself where it is dense already."""
    return weight.dense(dtype) if isinstance(weight, Quantized) else weight


def quantize(weight: Tensor, bits: Bits) -> Quantized:
    """The matrix [out, in], finite, each number at the nearest of its steps."""
    values = weight.detach().float()
    if bits == "int8":
        scales = values.abs().amax(1, keepdim=True) / 127
        return Quantized((values / _divisor(scales)).round_().to(torch.int8), scales, weight.shape[1])
    grouped = torch.nn.functional.pad(values, (0, -weight.shape[1] % GROUP)).view(len(values), -1, GROUP)
    largest = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))
    scales = (largest / -8).to(torch.bfloat16)
    codes = (grouped / _divisor(scales.float())).round_().clamp_(-8, 7).add_(8).to(torch.uint8).flatten(1)
    return Quantized(codes[:, 0::2] | (codes[:, 1::2] << 4), scales.squeeze(-1), weight.shape[1])


def _divisor(scales: Tensor) -> Tensor:
    """The scales with ones in place of zeros: a row of zeros has no step, and stays zeros."""
    return torch.where(scales == 0, 1.0, scales)


def quantized_linear(x: Tensor, weight: Quantized, bias: Tensor | None) -> Tensor:
    """x W^T + bias for x [..., in], in x's dtype, with W and the bias frozen: [..., out].

    Keeps nothing of x, and of W its codes: the dense matrix lives while a product is made. Once differentiable.
    """
    result: Tensor = _QuantizedLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


class _QuantizedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Quantized, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return torch.nn.functional.linear(x, weight.dense(x.dtype), bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] @ ctx.weight.dense(gradients[0].dtype), None, None
