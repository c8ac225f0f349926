"""Weights in the layout that the processor's matrix unit reads, for as long as nothing learns.

On a CPU torch puts a bfloat16 weight into the blocked layout of oneDNN anew at every product, which for a few rows
takes longer than the product itself. Here plain linear layers keep a copy in that layout while a text is generated: the
bits are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

__all__ = ["prepacked"]

_SHARE = 4
"""The copies take at most one part in so many of the memory that is free."""


@contextmanager
def prepacked(model: nn.Module) -> Iterator[None]:
    """While this lasts, the model's plain bfloat16 layers on the CPU keep their weights packed.

    Nothing happens where copies would take more than a quarter of the free memory, or torch has no such products. The
    weights must not change meanwhile.
    """
    layers = _plain(model) if _supported() else []
    size = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    if size * _SHARE > psutil.virtual_memory().available:
        layers = []
    try:
        for layer in layers:
            layer.__dict__["packed_weight"] = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
            layer.__class__ = _Prepacked
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Linear
            layer.__dict__.pop("packed_weight", None)


class _Prepacked(nn.Linear):
    """A linear layer with its weight packed; for inputs of other dtypes torch's own."""

    packed_weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16 or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed_weight, self.bias, "none", [], "")
        return result


def _plain(model: nn.Module) -> list[nn.Linear]:
    """Linear layers that are nothing else, and no part of an adapted one, which computes with their weights itself."""
    tuners = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    adapted = {id(part) for module in tuners for part in module.modules()}
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and id(module) not in adapted
        and module.weight.dtype == torch.bfloat16
        and module.weight.device.type == "cpu"
    ]


def _supported() -> bool:
    operations: Any = torch.ops.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return all(hasattr(operations, name) for name in names) and bool(operations._is_mkldnn_bf16_supported())
