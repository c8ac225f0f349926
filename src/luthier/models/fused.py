"""Modules of transformers and PEFT computed faster, under their own names and in their own files.

A module's class is replaced by a subclass that differs in its forward pass alone. PEFT's LoRA layers become one
operation, and so does a gated block of three of them or of three plain layers; whatever that does not cover (merged or
switched off, several adapters, variants such as DoRA, trained bases, hooks on the parts, autocast) goes
its own way.
Root-mean-square norms are recognized by what they compute: a probe holds the fused one against each class's own, since
models differ (Gemma's weight is added to one).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.pytorch_utils import Conv1D

from ..functional.dropout import dropout
from ..functional.embedding import embedding
from ..functional.gated import gated
from ..functional.layer_norm import layer_norm
from ..functional.low_rank import low_rank_linear
from ..functional.low_rank_gated import LowRank, low_rank_gated
from ..functional.norm import rms_norm
from ..functional.quantized import Quantized
from .quantized import QuantizedLinear

__all__ = ["fuse", "fuse_biases", "fuse_lora", "is_one_operation"]


class _FusedLora(Linear):  # type: ignore[misc]
    """A LoRA layer over a plain frozen linear layer."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = self._fusible(x, args, kwargs)
        if name is None:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        base = self.get_base_layer()
        weight = _frozen_weight(base)
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
        if name in self.lora_variant or not _is_frozen(base, x.dtype):
            return None
        parts = (base, self.lora_A[name], self.lora_B[name], self.lora_dropout[name])
        if any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts):
            return None
        if self.lora_B[name].bias is not None or torch.is_autocast_enabled(x.device.type):
            return None
        return name


def _is_frozen(base: Any, dtype: torch.dtype) -> bool:
    """Whether a layer that does not train computes what plain linear layers do, in this dtype.

    Some kinds (BitNet's) quantize what comes in, scale or regroup.
    """
    if isinstance(base, QuantizedLinear):
        return True
    if getattr(base.forward, "__func__", None) not in (nn.Linear.forward, Conv1D.forward):
        return False
    trains = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    return base.weight.dtype == dtype and not trains


def _frozen_weight(base: Any) -> Tensor | Quantized:
    """The weight [out, in] of a layer that `_is_frozen`."""
    if isinstance(base, QuantizedLinear):
        return base.packed
    weight: Tensor = base.weight if isinstance(base, nn.Linear) else base.weight.t()
    return weight


def fuse_lora(model: nn.Module) -> nn.Module:
    """Has every plain LoRA layer of the model, and every gated block of three, computed as one operation."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = _FusedLora
        elif _runs_like(type(module), LlamaMLP):
            module.__class__ = _gated_class(type(module))
    return model


def _runs_like(own: type[nn.Module], known: type[nn.Module]) -> bool:
    """Whether a class's forward pass is, instruction for instruction, the known one's, as copies of a family's are."""
    code: Any = getattr(own.forward, "__code__", None)
    wanted = known.forward.__code__
    return code is not None and (code.co_code, code.co_names) == (wanted.co_code, wanted.co_names)


_gated: dict[type[nn.Module], type[nn.Module]] = {}


def _gated_class(own: type[nn.Module]) -> type[nn.Module]:
    if own not in _gated:
        _gated[own] = type(own.__name__, (_FusedGated, own), {"__module__": own.__module__})
    return _gated[own]


class _FusedGated(nn.Module):
    """A gated block before its own class: one operation where its layers are plain, or LoRA layers without dropout."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.act_fn, (nn.SiLU, SiLUActivation)):
            parts, weights = _parts(self, x), _weights(self, x)
            if len(parts) == 3:
                return low_rank_gated(x, *parts)
            if len(weights) == 3:
                return gated(x, *weights)
        result: Tensor = super().forward(x)
        return result


def _layers(block: Any) -> tuple[nn.Module, nn.Module, nn.Module]:
    return block.gate_proj, block.up_proj, block.down_proj


def _parts(block: nn.Module, x: Tensor) -> list[LowRank]:
    return [part for part in (_part(layer, x) for layer in _layers(block)) if part is not None]


def _weights(block: nn.Module, x: Tensor) -> list[Tensor]:
    return [weight for weight in (_weight(layer, x) for layer in _layers(block)) if weight is not None]


def is_one_operation(module: nn.Module) -> bool:
    """Whether the module is a gated block that in training would be computed as one operation, once `fuse` saw it."""
    if not isinstance(module, _FusedGated) and not _runs_like(type(module), LlamaMLP):
        return False
    if not isinstance(module.act_fn, (nn.SiLU, SiLUActivation)):
        return False
    if any(isinstance(part, nn.Dropout) and part.p > 0 for part in module.modules()):
        return False
    x = next(module.parameters()).new_empty(0)
    return 3 in (len(_parts(module, x)), len(_weights(module, x)))


def _part(layer: nn.Module, x: Tensor) -> LowRank | None:
    """The layer as a low-rank change of a frozen one, where that is all it computes."""
    if not isinstance(layer, _FusedLora) or layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return None
    name = layer._fusible(x, (), {})
    base = layer.get_base_layer()
    if name is None or not isinstance(base, (nn.Linear, QuantizedLinear)) or base.bias is not None:
        return None
    if layer.training and getattr(layer.lora_dropout[name], "p", 0.0):
        return None
    return LowRank(_frozen_weight(base), layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name])


def _weight(layer: nn.Module, x: Tensor) -> Tensor | None:
    """The weight of a plain layer without a bias, where the layer does nothing beside its product."""
    if type(layer) is not nn.Linear or layer.bias is not None or layer.weight.dtype != x.dtype:
        return None
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return None
    return None if torch.is_autocast_enabled(x.device.type) else layer.weight


def fuse(model: nn.Module) -> nn.Module:
    """Has plain dropouts, root-mean-square norms and gated blocks computed faster; returns the model.

    In bfloat16 on the CPU, layer norms and embeddings get the exact gradients that torch's own have elsewhere.
    """
    for module in model.modules():
        if type(module) in _OWN:
            module.__class__ = _OWN[type(module)]
        elif _runs_like(type(module), LlamaMLP):
            module.__class__ = _gated_class(type(module))
        elif type(module).__name__.endswith("RMSNorm"):
            fused = _fused_norm(type(module), module)
            if fused is not None:
                module.__class__ = fused
    return model


def fuse_biases(model: nn.Module) -> nn.Module:
    """Has the plain linear layers of a model that is asked and not trained add their biases faster; returns the model.

    In bfloat16 the product is rounded before the bias is added.
    """
    for module in model.modules():
        if type(module) is nn.Linear and module.bias is not None:
            module.__class__ = _AskedLinear
    return model


class _AskedLinear(nn.Linear):
    """A linear layer that adds its bias in place; with gradients, in other dtypes and on other devices torch's own."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.bfloat16:
            return super().forward(x)
        # torch writes the bias over the whole output first, and has the product read it back.
        return nn.functional.linear(x, self.weight).add_(self.bias)


class _FusedDropout(nn.Dropout):
    """Dropout with cheap random numbers; on other devices than the CPU torch's own."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.inplace or not 0 < self.p < 1 or x.device.type != "cpu":
            return super().forward(x)
        return dropout(x, self.p)


class _ExactLayerNorm(nn.LayerNorm):
    """Layer norm whose gradient is summed in float32 where torch would take bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if weight is None or bias is None or weight.dim() != 1 or not _half_on_cpu(x, weight, bias):
            return super().forward(x)
        return layer_norm(x, weight, bias, self.eps)


class _ExactEmbedding(nn.Embedding):
    """An embedding whose gradient is summed in float32 where torch would take bfloat16."""

    def forward(self, numbers: Tensor) -> Tensor:
        special = self.max_norm is not None or self.scale_grad_by_freq or self.sparse
        if special or not (self.weight.requires_grad and _half_on_cpu(self.weight)):
            return super().forward(numbers)
        return embedding(numbers, self.weight, self.padding_idx)


def _half_on_cpu(*tensors: Tensor) -> bool:
    """Whether a gradient is going to be made of bfloat16 on the CPU."""
    plain = torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    return plain and all(tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" for tensor in tensors)


_OWN: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: _FusedDropout,
    nn.LayerNorm: _ExactLayerNorm,
    nn.Embedding: _ExactEmbedding,
}
_norms: dict[type[nn.Module], type[nn.Module] | None] = {}


def _fused_norm(own: type[nn.Module], module: nn.Module) -> type[nn.Module] | None:
    """The subclass of a norm's class that computes the same in one operation; None where it would not be the same."""
    if own not in _norms:
        _norms[own] = _make_norm(own) if _is_plain_norm(module) else None
    return _norms[own]


def _eps(module: nn.Module) -> float | None:
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return found if isinstance(found, float) else None


def _is_plain_norm(module: nn.Module) -> bool:
    """Whether the module's output and gradient on random values are those of rms_norm."""
    weight, eps = getattr(module, "weight", None), _eps(module)
    if eps is None or not isinstance(weight, nn.Parameter) or weight.dim() != 1 or len(list(module.parameters())) != 1:
        return False
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(16, len(weight), generator=generator).to(weight.device)
    probe: Any = copy.deepcopy(module).float()
    with torch.no_grad():
        probe.weight.copy_(torch.rand(len(weight), generator=generator).to(weight.device) + 0.5)
    with torch.enable_grad():
        sides = [drawn.clone().requires_grad_() for _ in range(2)]
        wanted, found = probe(sides[0]), rms_norm(sides[1], probe.weight, eps)
        if not isinstance(wanted, Tensor) or wanted.shape != found.shape:
            return False
        slopes = [torch.autograd.grad(y.sin().sum(), x)[0] for y, x in zip((wanted, found), sides, strict=True)]
    same = torch.allclose(wanted, found, atol=1e-5) and torch.allclose(slopes[0], slopes[1], atol=1e-5)
    return same and _rounds_alike(probe.bfloat16(), drawn.bfloat16(), eps)


def _rounds_alike(probe: Any, drawn: Tensor, eps: float) -> bool:
    """Whether the norm rounds before its weight: some (OLMo 2, GPT-OSS) do it after, and a quarter of bits differ."""
    with torch.no_grad():
        same = probe(drawn) == rms_norm(drawn, probe.weight, eps)
    return float(same.float().mean()) > 0.98


def _make_norm(own: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, hidden_states: Tensor) -> Tensor:
        eps = _eps(self)
        weight: Any = self.weight
        if eps is None or weight.dtype != hidden_states.dtype:
            result: Tensor = own.forward(self, hidden_states)
            return result
        return rms_norm(hidden_states, weight, eps)

    return type(own.__name__, (own,), {"forward": forward, "__module__": own.__module__})
