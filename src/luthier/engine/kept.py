"""What a forward pass keeps for its backward pass, in bytes, from shapes alone.

    kept     L (m (e B + D) + A) + O + C                for m tokens in a micro-batch
             e m L H + m (e B + D) + A + O + C          where blocks are computed again (gradient checkpointing)

    B        6 H + 2 Q + 2 K + g F
    A        e (2 Q + 2 K) (places - m) + (e [kept] + 1 [dropped]) heads * scores
    D        H for each dropout of hidden states; and of a LoRA layer with dropout the mask and the input it is fed

e: bytes of a number in products; L blocks (from the first in which a weight trains on) of width H with Q wide queries,
K wide keys, F wide inner layers. g: 2; for gated inner layers 4, or 2 where they are one operation. Places
and scores: those that sequences are computed at (functional/pack_plan.py); weights of scores are kept in short
sequences, a byte for each is in all that drop some. O: gradients that the output layer's forward pass makes, e m H
and, where it trains, 4 of its weights; C: logits that exist at a time. After Korthikanti et al. 2022 (arXiv:2205.05198,
section 4.1), for norms that keep their input, its normalized form and their output.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..functional.alike import pass_cost
from ..functional.logprobs import CHUNK, SLICE
from ..functional.pack_plan import plan_of
from ..models.fused import is_one_operation
from ..models.heads import layers

__all__ = ["activation_bytes", "learning_blocks", "logit_bytes"]

_NUMBER = re.compile(r"\.(\d+)\.")
_ATTENTION_DROPOUTS = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop", "attn_dropout")


@dataclass(frozen=True)
class _Shapes:
    """Sizes of a model: those of the module's docstring, and whether attention looks ahead and drops weights."""

    size: int
    width: int
    blocks: int
    heads: int
    queries: int
    keys: int
    inner: int
    causal: bool
    drops: bool

    @classmethod
    def of(cls, model: nn.Module, config: Any) -> _Shapes:
        width, heads = int(config.hidden_size), int(config.num_attention_heads)
        head = int(getattr(config, "head_dim", None) or width // heads)
        sizes = [getattr(config, name, None) for name in ("intermediate_size", "n_inner", "d_ff", "decoder_ffn_dim")]
        return cls(
            # The narrowest matrices: what trains may be wider, and is cast for products.
            size=min(p.element_size() for p in model.parameters() if p.dim() > 1),
            width=width,
            blocks=int(config.num_hidden_layers),
            heads=heads,
            queries=heads * head,
            keys=head * int(getattr(config, "num_key_value_heads", None) or heads),
            inner=next((int(size) for size in sizes if size), 4 * width),
            causal=all(getattr(module, "is_causal", True) is not False for module in model.modules()),
            drops=any(float(getattr(config, name, None) or 0.0) > 0 for name in _ATTENTION_DROPOUTS),
        )


def activation_bytes(
    model: nn.Module, tokens: int, lengths: Sequence[int], recomputes: bool = False, learning: int | None = None
) -> int:
    """Bytes that a forward pass in training over `tokens` tokens keeps for its backward pass.

    lengths: of all rows; of those the micro-batch is taken to hold the ones whose attention keeps most. recomputes: the
    blocks' inputs, and all of the one block that the backward pass is at. learning: how many of the last blocks the
    backward pass comes to; None: all.
    """
    config: Any = getattr(model, "config", None)
    config = getattr(config, "text_config", None) or config
    shapes = _Shapes.of(model, config)
    learning = shapes.blocks if learning is None else learning
    layer = _output_layer(model)
    out = 0
    if layer is not None:
        out = logit_bytes(tokens, int(config.vocab_size), shapes.size) + shapes.size * tokens * shapes.width
        out += 4 * layer.numel() if layer.requires_grad else 0
    if not learning:
        return out
    if config.is_encoder_decoder:
        return _two_sided_bytes(model, config, shapes, tokens, lengths, recomputes) + out
    dropped = shapes.width * _hidden_dropouts(model) // shapes.blocks + _lora_dropouts(model, shapes.size) // learning
    each = 6 * shapes.width + 2 * shapes.queries + 2 * shapes.keys + _inner_copies(model) * shapes.inner
    block = tokens * (shapes.size * each + dropped) + _attention_bytes(shapes, tokens, lengths)
    if recomputes:
        return shapes.size * tokens * learning * shapes.width + block + out
    return learning * block + out


def _two_sided_bytes(
    model: nn.Module, config: Any, shapes: _Shapes, tokens: int, lengths: Sequence[int], recomputes: bool
) -> int:
    """What the blocks of an encoder-decoder keep, at most: as if all tokens went through the side of more blocks.

        L p (m (e (10 H + 4 Q + 2 K + g F) + D) + (4 [kept] + 10 [dropped]) heads places)

    A decoder's block attends twice. Scores are whole and in float32, since positions are a bias to them: of a row of l
    tokens on both sides together, l * l and fewer. p: what padding rows among their like makes of m. Gated inner layers
    compute their activation in steps, each of which is kept.
    """
    blocks = [name.rpartition(".")[0] for name, _ in layers(model)]
    most = max(Counter(blocks).values())
    copies = 8 if getattr(config, "is_gated_act", False) else 2
    each = 10 * shapes.width + 4 * shapes.queries + 2 * shapes.keys + copies * shapes.inner
    dropped = shapes.width * _hidden_dropouts(model) // len(blocks) + _lora_dropouts(model, shapes.size) // len(blocks)
    found, counts = np.unique(np.asarray(lengths, dtype=np.int64), return_counts=True)
    there = np.minimum(np.cumsum((found * counts)[::-1]), tokens)
    places = float((found[::-1] * np.diff(there, prepend=0)).sum()) * tokens / int(there[-1])
    drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    spare = 2 * pass_cost(next(model.parameters()).device.type)
    padded = min(1 + spare / tokens, int(found[-1]) * int(counts.sum()) / int(found @ counts))
    scores = (4 + 10 * drops) * shapes.heads * places
    block = round(padded * (tokens * (shapes.size * each + dropped) + scores))
    return round(padded * shapes.size * tokens * most * shapes.width) + block if recomputes else most * block


def learning_blocks(model: nn.Module, trained: Sequence[nn.Parameter]) -> int:
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


# ---- what depends on the rows' lengths -------------------------------------------------------------------------------


def _attention_bytes(shapes: _Shapes, tokens: int, lengths: Sequence[int]) -> int:
    """A of a block for the rows that keep most for each of their tokens, up to `tokens` of them."""
    found, counts = np.unique(np.asarray(lengths, dtype=np.int64), return_counts=True)
    each = np.array([_of_a_row(shapes, int(length)) for length in found]) / found
    order = np.argsort(-each, kind="stable")
    there = np.minimum(np.cumsum((found * counts)[order]), tokens)
    # Fewer tokens in all rows than in the micro-batch: it holds them more than once.
    return round(float((each[order] * np.diff(there, prepend=0)).sum()) * tokens / int(there[-1]))


def _of_a_row(shapes: _Shapes, length: int) -> int:
    plan = plan_of((0, length), shapes.causal, None, torch.device("cpu"))
    bunch = plan.bunches[0]
    scores = sum((high - low) * (right - left) for low, high, left, right in plan.blocks(bunch))
    filling = shapes.size * (2 * shapes.queries + 2 * shapes.keys) * (bunch.length - length)
    return filling + shapes.heads * scores * (shapes.size * bunch.short + shapes.drops)


# ---- what depends on the modules -------------------------------------------------------------------------------------


def _inner_copies(model: nn.Module) -> int:
    """g: tensors as wide as a block's inner layer that it keeps."""
    gated = any("gate" in name.rpartition(".")[2] for name, _ in model.named_modules())
    blocks = sum(is_one_operation(module) for module in model.modules())
    return 4 if gated and not blocks else 2


def _hidden_dropouts(model: nn.Module) -> int:
    """Dropouts in all blocks; each is taken for one of hidden states, a byte a value."""
    return sum(
        isinstance(module, nn.Dropout) and module.p > 0 and "lora_" not in name and _NUMBER.search(name) is not None
        for name, module in model.named_modules()
    )


def _lora_dropouts(model: nn.Module, size: int) -> int:
    """Bytes a token of what LoRA layers with dropout keep beyond what they would without: masks, and their inputs.

    Layers of one parent and one width are taken to read one input, which then is not kept.
    """
    layers: Counter[tuple[str, int]] = Counter()
    for name, module in model.named_modules():
        rates: Any = getattr(module, "lora_dropout", None) or {}
        if any(getattr(rates[key], "p", 0.0) > 0 for key in rates):
            layers[name.rpartition(".")[0], int(module.in_features)] += 1
    return sum(width * (count + size * (count - 1)) for (_, width), count in layers.items())


def _output_layer(model: nn.Module) -> nn.Parameter | None:
    """The weight over the vocabulary, where the model has one."""
    find = getattr(model, "get_output_embeddings", None)
    layer = find() if find is not None else None
    weight = None if layer is None else getattr(layer, "weight", None)
    return weight if isinstance(weight, nn.Parameter) else None
