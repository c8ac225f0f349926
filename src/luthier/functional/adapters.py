"""Modules that adaptations put into a model: the bottleneck adapter.

Source: Houlsby et al. 2019, arXiv:1902.00751, section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Bottleneck", "attach_bottleneck"]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


class Bottleneck(nn.Module):
    """h + up(f(down(h))): from `width` down to `size` and back. Shapes: [..., width] to [..., width].

    The up-projection starts at zero, so that the output equals the input bit for bit until the first step; the
    down-projection starts at a normal deviation of 0.02, for otherwise no gradient would ever flow. Its weights and
    their gradients are float32 over a base of any dtype; products and the sum are in the dtype of the input.
    """

    def __init__(self, width: int, size: int, activation: str, device: torch.device | None = None) -> None:
        super().__init__()
        self.down = nn.Linear(width, size, device=device, dtype=torch.float32)
        self.up = nn.Linear(size, width, device=device, dtype=torch.float32)
        self.activation = activation
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., H] in the dtype that came in."""
        return hidden + _linear(ACTIVATIONS[self.activation](_linear(hidden, self.down)), self.up)


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """The layer in x's dtype: its few weights are copied, and not x."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def attach_bottleneck(linear: nn.Module, bottleneck: Bottleneck) -> None:
    """Passes the output of `linear` through the adapter; the names of the model's own weights stay what they were.

    The hook looks the adapter up on the module it is called for: one that closed over the adapter would still run the
    original's after a deepcopy.
    """
    linear.add_module("bottleneck", bottleneck)
    linear.register_forward_hook(_through_bottleneck)


def _through_bottleneck(module: Any, _arguments: Any, output: Tensor) -> Tensor:
    result: Tensor = module.bottleneck(output)
    return result
