"""LoRA layers that begin at a part of their matrix, and change it by how far they have moved from there.

    W x + s (B A - B0 A0) x        A = A0, B = B0 at first: the principal part of W, or an orthonormal one

It is the function that PiSSA and OLoRA write as (W - s B0 A0) x + s B A x, with the same gradients, but the base stays
what it is: with the adapter switched off it answers as before, and at the first step nothing has changed, to the bit.
In files it is a plain LoRA of twice the rank over the base, A over A0 and B beside -B0, which any PEFT loads.
Sources: Meng et al. 2024 (PiSSA, arXiv:2404.02948, equations 2 to 4 and appendix C on such files); Buyukakyuz 2024
(OLoRA, arXiv:2406.01775).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from ..functional.low_rank import orthonormal_factors, principal_factors

__all__ = ["BegunLora", "begin", "doubled", "file_units", "halved", "of_twice_the_rank"]

Beginning = Literal["pissa", "olora"]


class BegunLora(Linear):  # type: ignore[misc]
    """PEFT's LoRA layer with the factors that it began with; one adapter."""

    begun_down: Tensor
    begun_up: Tensor

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in] -> [..., out]"""
        if self.disable_adapters or self.merged or "default" not in self.active_adapters:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        fed, scale = self.lora_dropout["default"](x), self.scaling["default"]

        def change(down: Tensor, up: Tensor) -> Tensor:
            changed: Tensor = (fed @ down.to(x.dtype).t()) @ (up * scale).to(x.dtype).t()
            return changed

        # Two products of one shape round alike: their difference is zero until something moves.
        moved = change(self.lora_A["default"].weight, self.lora_B["default"].weight)
        output: Tensor = self.base_layer(x, *args, **kwargs) + (moved - change(self.begun_down, self.begun_up))
        return output

    def get_delta_weight(self, adapter: str) -> Tensor:
        """What the adapter adds to the weight, as it lies there."""
        start = (self.begun_up @ self.begun_down) * self.scaling[adapter]
        delta: Tensor = super().get_delta_weight(adapter) - (start.t() if self.fan_in_fan_out else start)
        return delta


def begin(model: nn.Module, beginning: Beginning) -> nn.Module:
    """Has every plain LoRA layer of the model begin there; returns the model."""
    for module in model.modules():
        if type(module) is not Linear:
            continue
        layer: Any = module
        weight = layer.get_base_layer().weight
        dense = (weight.t() if layer.fan_in_fan_out else weight).detach().float()
        rank, scale = layer.r["default"], layer.scaling["default"]
        if beginning == "pissa":
            down, up = principal_factors(dense, rank, scale)
        else:
            down, up = orthonormal_factors(dense, rank)
        for name, part in (("begun_down", down), ("begun_up", up)):
            layer.register_buffer(name, part, persistent=False)
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(down)
            layer.lora_B["default"].weight.copy_(up)
        layer.__class__ = BegunLora
    return model


def doubled(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapter's tensors as those of a plain LoRA of twice the rank."""
    state = dict(state)
    for module, down, up in _layers(model):
        state[down] = torch.cat([state[down], module.begun_down.to(state[down].device)])
        state[up] = torch.cat([state[up], -module.begun_up.to(state[up].device)], dim=1)
    return state


def halved(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of such tensors those of the adapter; where it began goes into the model."""
    state = dict(state)
    for module, down, up in _layers(model):
        state[down], begun_down = state[down].chunk(2)
        state[up], begun_up = state[up].chunk(2, dim=1)
        module.begun_down.copy_(begun_down)
        module.begun_up.copy_(-begun_up)
    return state


def of_twice_the_rank(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of such an adapter: twice the rank, the same scale."""
    return {
        **config,
        **{name: config[name] * unit for name, unit in file_units(stabilized=config["use_rslora"]).items()},
    }


def file_units(*, stabilized: bool) -> dict[str, float]:
    """What one of an adapter's rank and alpha is in its file."""
    return {"r": 2, "lora_alpha": math.sqrt(2) if stabilized else 2}


def _layers(model: nn.Module) -> Iterator[tuple[BegunLora, str, str]]:
    """Each such layer with its factors' names in PEFT's files."""
    for name, module in model.named_modules():
        if isinstance(module, BegunLora):
            yield module, f"{name}.lora_A.weight", f"{name}.lora_B.weight"
