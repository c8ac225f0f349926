"""The memory of training, from shapes alone: what is held all the time, and what one micro-batch keeps for backward.

    held     weights + 4 t (masters, where a trained weight is no float32) + 4 t (gradients) + s t (optimizer)
             + 4 t (the best weights, where validation keeps them)
    kept     e m L B + O + C    for m tokens in a micro-batch, with B = 6 H + 2 Q + 2 K + g F + W in a block;
             e m (L H + B) + O + C    where blocks are computed again (gradient checkpointing)

t: trained weights; s: bytes of optimizer state for each (AdamW: 8), from one step on a small matrix; e: bytes of a
number in products; L blocks (from the first in which a weight trains on) of width H with Q wide queries, K wide keys,
F wide inner layers; g: 4 for gated inner layers, else 2; W: heads times the length of a sequence that is short enough
to keep attention's weights, else 0; O: gradients that the output layer's forward pass makes, e m H and, where it
trains, 4 of its weights; C: logits that exist at a time. After Korthikanti et al. 2022 (arXiv:2205.05198, section 4.1),
for norms that keep their input, its normalized form and their output. The allocator's slack is not in it: a probe's
peak is higher.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.contracts import Adaptation, Optimizer
from ..functional.logprobs import CHUNK, SLICE
from ..functional.pack_plan import BLOCK

__all__ = ["Memory", "activation_bytes", "estimate", "logit_bytes", "state_bytes", "trained_weights", "weight_bytes"]

_NUMBER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes, by what takes them."""

    weights: int
    masters: int
    gradients: int
    optimizer: int
    best: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.masters + self.gradients + self.optimizer + self.best + self.activations


def estimate(
    model: nn.Module,
    adaptation: Adaptation,
    optimizer: Optimizer,
    *,
    tokens: int,
    length: int,
    keeps_best: bool,
    recomputes: bool = False,
) -> Memory:
    """The memory of training an adapted `model` with `tokens` in a micro-batch, in sequences of `length`.

    recomputes: whether blocks are computed again in the backward pass (models/recompute.py).
    """
    trained = [parameter for group in adaptation.groups(model) for _, parameter in group.parameters]
    count = sum(parameter.numel() for parameter in trained)
    return Memory(
        weights=weight_bytes(model),
        masters=4 * sum(p.numel() for p in trained if p.dtype != torch.float32),
        gradients=4 * count,
        optimizer=round(state_bytes(optimizer) * count),
        best=4 * count if keeps_best else 0,
        activations=activation_bytes(model, tokens, length, recomputes, _learning(model, trained)),
    )


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, tied ones once."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def trained_weights(model: nn.Module, adaptation: Adaptation) -> int:
    """How many numbers the adaptation will ever train."""
    return sum(p.numel() for group in adaptation.groups(model) for _, p in group.parameters)


def state_bytes(optimizer: Optimizer, size: int = 32) -> float:
    """Bytes of optimizer state for each trained float32 weight, from one step on a matrix."""
    weight = torch.zeros(size, size, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    made = optimizer.make([{"params": [weight], "lr": 1e-3, "weight_decay": 0.0}])
    made.step()
    state = [value for value in made.state[weight].values() if isinstance(value, torch.Tensor) and value.dim()]
    return sum(value.numel() * value.element_size() for value in state) / weight.numel()


def activation_bytes(
    model: nn.Module, tokens: int, length: int, recomputes: bool = False, learning: int | None = None
) -> int:
    """Bytes that a forward pass over `tokens` tokens, in sequences of `length`, keeps for its backward pass.

    recomputes: the blocks' inputs, and all of the one block that the backward pass is at. learning: how many of the
    last blocks the backward pass comes to; None: all.
    """
    config: Any = getattr(model, "config", None)
    config = getattr(config, "text_config", None) or config
    width, blocks = int(config.hidden_size), int(config.num_hidden_layers)
    heads = int(config.num_attention_heads)
    head = int(getattr(config, "head_dim", None) or width // heads)
    queries, keys = heads * head, int(getattr(config, "num_key_value_heads", None) or heads) * head
    inner = int(getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width)
    gated = any("gate" in name.rpartition(".")[2] for name, _ in model.named_modules())
    size = max((p.element_size() for p in model.parameters() if p.dim() > 1), key=lambda s: -s)
    block = 6 * width + 2 * queries + 2 * keys + (4 if gated else 2) * inner
    block += heads * length if length <= BLOCK else 0  # attention's weights, which only short sequences keep
    layer = _output_layer(model)
    out = 0
    if layer is not None:
        out = logit_bytes(tokens, int(config.vocab_size), size) + size * tokens * width
        out += 4 * layer.numel() if layer.requires_grad else 0
    learning = blocks if learning is None else learning
    if recomputes and learning:
        return tokens * size * (learning * width + block) + out
    return tokens * size * learning * block + out


def _learning(model: nn.Module, trained: Sequence[nn.Parameter]) -> int:
    """How many of the last blocks the backward pass comes to: from the first that trains, or all below which one does.

    Parameters come in the order of the forward pass, with their block's number in the name.
    """
    wanted, blocks, reached = {id(parameter) for parameter in trained}, set[int](), set[int]()
    for name, parameter in model.named_parameters():
        number = _NUMBER.search(name)
        if number:
            blocks.add(int(number[1]))
        if id(parameter) in wanted:
            reached.add(int(number[1]) if number else max(blocks, default=-1) + 1)
    return max(blocks, default=-1) + 1 - min(reached, default=0)


def logit_bytes(tokens: int, vocabulary: int, size: int) -> int:
    """Bytes of logits that exist at a time: a chunk of `size` bytes a logit, and three float32 copies of a slice."""
    every = tokens * vocabulary
    return size * min(CHUNK, every) + 12 * min(SLICE, every)


def _output_layer(model: nn.Module) -> nn.Parameter | None:
    """The weight over the vocabulary, where the model has one."""
    find = getattr(model, "get_output_embeddings", None)
    layer = find() if find is not None else None
    weight = None if layer is None else getattr(layer, "weight", None)
    return weight if isinstance(weight, nn.Parameter) else None
