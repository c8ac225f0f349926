"""The memory of training, from shapes alone: what is held all the time, and what one micro-batch keeps for backward.

    held     weights + 4 t (masters, where a trained weight is no float32) + 4 t (gradients) + s t (optimizer)
             + 4 t (the best weights, where validation keeps them)
             + (4 + e) t (their mean over the steps, where the objective asks for it)
    kept     what a forward pass keeps (engine/kept.py)

t: trained weights, e bytes each; s: bytes of optimizer state for each (AdamW: 8), from one step on a small matrix. The
allocator's slack is not in it: a probe's peak is higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..core.contracts import Adaptation, Optimizer
from .kept import activation_bytes, learning_blocks

__all__ = ["Memory", "estimate", "state_bytes", "trained_weights", "weight_bytes"]


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes, by what takes them."""

    weights: int
    masters: int
    gradients: int
    optimizer: int
    best: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        held = self.weights + self.masters + self.gradients + self.optimizer + self.best + self.average
        return held + self.activations


def estimate(
    model: nn.Module,
    adaptation: Adaptation,
    optimizer: Optimizer,
    *,
    tokens: int,
    lengths: Sequence[int],
    keeps_best: bool,
    recomputes: bool = False,
    averages: bool = False,
) -> Memory:
    """The memory of training an adapted `model` with `tokens` in a micro-batch of rows of such lengths.

    recomputes: whether blocks are computed again in the backward pass (models/recompute.py). averages: whether a mean
    of the weights over the steps is kept (engine/average.py).
    """
    trained = [parameter for group in adaptation.groups(model) for _, parameter in group.parameters]
    count = sum(parameter.numel() for parameter in trained)
    return Memory(
        weights=weight_bytes(model),
        masters=4 * sum(p.numel() for p in trained if p.dtype != torch.float32),
        gradients=4 * count,
        optimizer=round(state_bytes(optimizer) * count),
        best=4 * count if keeps_best else 0,
        average=sum((4 + p.element_size()) * p.numel() for p in trained) if averages else 0,
        activations=activation_bytes(model, tokens, lengths, recomputes, learning_blocks(model, trained)),
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
