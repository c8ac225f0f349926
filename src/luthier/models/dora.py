"""DoRA's sizes of weights as they are at first, in float32 over a base of any dtype.

PEFT takes them in the base's dtype where they begin and in float32 where it computes by them: over bfloat16 the two
differ by up to 0.4 %, and the first step would not begin at the base. Source: Liu et al. 2024 (arXiv:2402.09353).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["begin_at_the_base"]


def begin_at_the_base(model: nn.Module) -> nn.Module:
    """Sets the sizes of every DoRA layer to those that it finds in its weights when it computes; returns the model."""
    for module in model.modules():
        layer: Any = module
        for name, size in getattr(layer, "lora_magnitude_vector", {}).items():
            change = size.get_lora_weight(lora_A=layer.lora_A[name], lora_B=layer.lora_B[name])
            weight = layer.get_base_layer().weight.float()
            with torch.no_grad():
                size.weight.copy_(size.get_weight_norm(weight, change, layer.scaling[name]))
    return model
