"""PEFT's LoRA layers computed as one operation, under their own names and files.

A layer's class is replaced by a subclass that differs in its forward pass alone; whatever that pass does not cover
(merged or switched off, several adapters, variants such as DoRA, quantized or trained bases, hooks on the parts,
autocast) goes PEFT's own way. So does a layer of another class: it is left as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from ..functional.low_rank import low_rank_linear
from .linears import is_linear

__all__ = ["fuse_lora"]


class _FusedLora(Linear):  # type: ignore[misc]
    """A LoRA layer over a plain frozen linear layer."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = self._fusible(x, args, kwargs)
        if name is None:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        base = self.get_base_layer()
        weight = base.weight if isinstance(base, nn.Linear) else base.weight.t()
        rate = getattr(self.lora_dropout[name], "p", 0.0) if self.training else 0.0
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        return low_rank_linear(x, weight, base.bias, down, up, self.scaling[name], rate)

    def _fusible(self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """The one adapter's name where the fused pass computes what PEFT would."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if args or kwargs or self.disable_adapters or self.merged or len(active) != 1:
            return None
        name: str = active[0]
        base = self.get_base_layer()
        if name in self.lora_variant or not is_linear(base) or base.weight.dtype != x.dtype:
            return None
        if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
            return None
        parts = (base, self.lora_A[name], self.lora_B[name], self.lora_dropout[name])
        if any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts):
            return None
        if self.lora_B[name].bias is not None or torch.is_autocast_enabled(x.device.type):
            return None
        return name


def fuse_lora(model: nn.Module) -> nn.Module:
    """Has every plain LoRA layer of the model computed as one operation; returns the model."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = _FusedLora
    return model
