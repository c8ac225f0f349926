"""A model whose blocks hold their linear layers in eight or four bits a number, beneath adapters.

Embeddings, norms, biases, the output layer and a classification head stay as they are. The codes are those of the
weights in bfloat16: the same ones, whatever dtype the model was loaded in.
Source: Dettmers et al. 2023 (QLoRA, arXiv:2305.14314, section 3), with the formats of functional/quantized.py.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..core.errors import ModelError
from ..core.files import write_atomic
from ..functional.quantized import Bits, Quantized, quantize, quantized_linear
from .heads import layers
from .linears import is_linear

__all__ = [
    "QuantizedLinear",
    "inner_linears",
    "quantize_layers",
    "read_bits",
    "refuse_other_bits",
    "restore_layers",
    "rounded",
    "write_bits",
]

BITS = "base.json"


class QuantizedLinear(nn.Module):
    """A frozen linear layer in few bits: codes and scales of functional/quantized.py; the bias is as it was."""

    codes: Tensor
    scales: Tensor

    def __init__(self, layer: nn.Module, bits: Bits) -> None:
        super().__init__()
        weight: Any = layer.weight
        self.transposed = isinstance(layer, Conv1D)
        self.dtype = weight.dtype
        packed = quantize((weight.t() if self.transposed else weight).bfloat16(), bits)
        self.out_features, self.in_features = packed.codes.shape[0], packed.width
        self.register_buffer("codes", packed.codes)
        self.register_buffer("scales", packed.scales)
        self.bias: Any = layer.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)

    @property
    def packed(self) -> Quantized:
        """The weight [out, in]."""
        return Quantized(self.codes, self.scales, self.in_features)

    @property
    def weight(self) -> Tensor:
        """Size and dtype of the weight that the layer had, without numbers: T5 asks its layers for the latter."""
        return torch.empty(self.out_features, self.in_features, dtype=self.dtype, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        return quantized_linear(x, self.packed, self.bias)

    def restored(self) -> nn.Module:
        """The plain layer of the weights that the codes stand for, in the dtype that it had."""
        dense = self.packed.dense(self.dtype)
        with torch.device("meta"):
            if self.transposed:
                plain: Any = Conv1D(self.out_features, self.in_features)
            else:
                plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        plain.weight = nn.Parameter(dense.t().contiguous() if self.transposed else dense)
        plain.bias = self.bias
        layer: nn.Module = plain.train(self.training)
        return layer


def inner_linears(model: nn.Module) -> list[nn.Module]:
    """The linear layers inside the blocks. Errors: ModelError where the model has no list of blocks."""
    return [module for _, block in layers(model) for module in block.modules() if is_linear(module)]


def quantize_layers(model: nn.Module, chosen: Collection[nn.Module], bits: Bits) -> nn.Module:
    """Holds the chosen layers in few bits, one after the other, wherever in the model they lie; returns the model."""
    wanted = {id(layer) for layer in chosen}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in wanted:
                setattr(parent, name, QuantizedLinear(child, bits))
    return model


def restore_layers(model: nn.Module) -> nn.Module:
    """The model with plain layers of the same weights in place of those in few bits; returns the model."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, QuantizedLinear):
                setattr(parent, name, child.restored())
    return model


def write_bits(folder: Path, bits: Bits | None) -> None:
    """Says beside an adapter that it belongs on a base in few bits; nothing where it does not."""
    if bits is not None:
        write_atomic(folder / BITS, json.dumps({"base": bits}) + "\n")


def read_bits(folder: Path) -> Bits | None:
    """In what an adapter's base is to be held. Errors: ModelError for a file that does not say it."""
    path = folder / BITS
    if not path.is_file():
        return None
    try:
        bits = json.loads(path.read_text(encoding="utf-8"))["base"]
    except (ValueError, KeyError, TypeError):
        bits = None
    if bits not in get_args(Bits):
        raise ModelError(
            "the file does not say in how many bits the adapter's base is held",
            where=str(path),
            expected='{"base": "int8"} or {"base": "int4"}',
            remedy="copy the adapter's folder again",
        )
    return cast(Bits, bits)


def refuse_other_bits(folder: Path, bits: Bits | None) -> None:
    """Errors: ModelError where an adapter was trained over a base held otherwise: it would load, and answer worse."""
    found = read_bits(folder)
    if found != bits:
        raise ModelError(
            f"the adapter was trained over a base {'as it is' if found is None else f'in {found}'}",
            where=str(folder),
            expected=f"base: {bits}",
            remedy=f"set base: {found}" if found else "remove base",
        )


def rounded(model: nn.Module, bits: Bits) -> nn.Module:
    """The model with the weights that its inner linear layers would have in few bits, as plain layers."""
    return restore_layers(quantize_layers(model, inner_linears(model), bits))
