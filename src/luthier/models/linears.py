"""The linear layers of a model, and those that write into its residual stream.

GPT-2 and its kin keep their products in transformers' Conv1D, a linear layer whose weight lies transposed.
"""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

from ..core.errors import ModelError
from .heads import layers, plain

__all__ = ["is_linear", "residual_writers"]


def is_linear(module: nn.Module) -> bool:
    """Whether the module is a plain linear layer, in either of the two forms that transformers uses."""
    return isinstance(module, (nn.Linear, Conv1D))


def residual_writers(model: nn.Module) -> list[tuple[str, nn.Module, nn.Module]]:
    """For each block (name, attention's last linear layer, feed-forward's last linear layer).

    Of a block's linear layers that are as wide as the residual stream, the last one inside attention and the last one
    outside of it write into the stream: o_proj and down_proj, BERT's attention.output.dense and output.dense.
    Errors: ModelError for a block that is built otherwise (mixtures of experts, blocks without attention).
    """
    width = int(plain(model).config.hidden_size)
    found = []
    for name, block in layers(model):
        wide = [
            (inner, module) for inner, module in block.named_modules() if is_linear(module) and _out(module) == width
        ]
        attention = [module for inner, module in wide if _in_attention(inner)]
        forward = [module for inner, module in wide if not _in_attention(inner)]
        experts = any("expert" in inner for inner, _ in block.named_modules())
        if experts or not attention or not forward:
            raise ModelError(
                f"block '{name}' of {type(plain(model)).__name__} "
                + ("is a mixture of experts" if experts else "has no pair of attention and feed-forward outputs"),
                expected="one attention and one feed-forward part, each ending in a linear layer",
                remedy="adapt this model with lora",
            )
        found.append((name, attention[-1], forward[-1]))
    return found


def _out(module: nn.Module) -> int:
    return int(module.nf) if isinstance(module, Conv1D) else int(module.out_features)  # type: ignore[arg-type]


def _in_attention(name: str) -> bool:
    parts = name.lower().split(".")
    return any(part.startswith("attn") or part.endswith("attn") or "attention" in part for part in parts)
