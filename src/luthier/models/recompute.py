"""Gradient checkpointing: a block keeps its input alone, and is computed again when the backward pass comes to it.

Source: Chen et al. 2016 (arXiv:1604.06174), one segment a block. What a block draws at random is drawn again from the
same state of the generator, so losses and gradients have the bits that they have without. torch's non-reentrant form
needs no gradient of the embeddings: a backward pass ends where it would end anyway, which transformers' own switch,
written for the reentrant form too, prevents. Boundaries of packed sequences are arguments, and are there again.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import transformer_of

__all__ = ["can_recompute", "recompute"]


def can_recompute(model: nn.Module) -> bool:
    """Whether the model has blocks that can be computed again, and says that it supports it."""
    inner = transformer_of(model)
    return bool(inner.supports_gradient_checkpointing) and bool(_blocks(inner))


def recompute(model: nn.Module) -> nn.Module:
    """Has each block of a model that `can_recompute` computed again in training; returns the model.

    In evaluation mode nothing changes.
    """
    for block in _blocks(transformer_of(model)):
        block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        block.gradient_checkpointing = True
    return model


def _blocks(model: nn.Module) -> list[GradientCheckpointingLayer]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
