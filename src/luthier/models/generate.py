"""Answers for many prompts at once, with draws that belong to the item.

Models that can be packed are generated from without any padding (generate_packed.py), others in left-padded batches
(generate_padded.py), encoder-decoders in batches padded at the end (generate_encoded.py). What an item is batched with
changes nothing but rounding.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Sequence
from contextlib import nullcontext

import torch
from torch import nn

from ..core.errors import ModelError
from .attention import still
from .decoding import Listener, Request, chooser, heard_by, next_tokens
from .generate_encoded import generate_encoded
from .generate_packed import decoding_offset, generate_packed
from .generate_padded import generate_padded
from .heads import plain
from .prepacked import prepacked
from .prompt import text_room
from .tokens import refuse_rowless

__all__ = ["generate", "next_tokens"]

_LONG = 8
"""New tokens from which on packing the weights pays."""


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    stop: Collection[int],
    pad: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
    batch_tokens: int = 16384,
    listener: Listener | None = None,
) -> list[list[int]]:
    """The new token ids for each prompt, in the prompts' order, without the stop token that ended them.

    temperature 0 is greedy; otherwise draws are made from the smallest set of tokens whose probability reaches `top_p`
    (Holtzman et al. 2020), with item i's numbers from seeds[i] (default: i). At most `batch_tokens` positions are held
    at once, padding and new tokens counted, or one prompt. Where the model has a last position, a prompt too long for
    it loses its beginning, with a warning. listener: is told of every token as it is chosen.
    The model is in eval mode meanwhile.
    Errors: ModelError for a model that keeps no key-value cache, or a token that it has no row for; ValueError for an
    empty prompt.
    """
    if seeds is not None and len(seeds) != len(prompts):
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts")
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt holds no token; give at least the begin token")
    refuse_rowless(max(map(max, prompts), default=-1), plain(model).config)
    _refuse_uncached(model)
    two_sides = plain(model).config.is_encoder_decoder
    cut, rooms, limit = (_sides_fit if two_sides else _fit)(model, prompts, max_new_tokens)
    own = seeds if seeds is not None else range(len(prompts))
    choose = chooser(temperature, top_p, own, max_new_tokens)
    if listener is not None:
        choose = heard_by(listener, choose)
    request = Request(cut, rooms, frozenset(stop), pad, limit, batch_tokens, choose)
    if not cut or max_new_tokens < 1:
        return [[] for _ in cut]
    offset = None if two_sides else decoding_offset(model, pad)
    with still(model), torch.inference_mode(), prepacked(model) if max_new_tokens >= _LONG else nullcontext():
        if two_sides:
            return generate_encoded(model, request)
        return generate_padded(model, request) if offset is None else generate_packed(model, request, offset)


def _refuse_uncached(model: nn.Module) -> None:
    inner = plain(model)
    if "past_key_values" not in inspect.signature(inner.forward).parameters:
        raise ModelError(
            f"{type(inner).__name__} cannot generate here: it keeps no key-value cache of its own text",
            expected="a decoder with attention",
            remedy="leave out checks that generate, such as text_match",
        )


def _sides_fit(
    model: nn.Module, prompts: Sequence[Sequence[int]], wanted: int
) -> tuple[list[Sequence[int]], list[int], int | None]:
    """As `_fit`, where a prompt takes no positions of its answer's and is not cut."""
    limit: int | None = getattr(plain(model).config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, prompts), default=0)
    if limit is not None and longest > limit:
        raise ModelError(
            f"a prompt has {longest} tokens, and the model reads {limit}", expected="prompts within max_length"
        )
    return list(prompts), [wanted if limit is None else min(wanted, limit)] * len(prompts), limit


def _fit(
    model: nn.Module, prompts: Sequence[Sequence[int]], wanted: int
) -> tuple[list[Sequence[int]], list[int], int | None]:
    """Prompts cut on the left where they and `wanted` new tokens exceed the model's positions, and each one's room.

    At least half of the positions stay the prompt's, so that a generous `wanted` does not cost the question.
    """
    limit = text_room(model)
    if limit is None:
        return list(prompts), [wanted] * len(prompts), None
    kept = min(limit - 1, max(limit - wanted, (limit + 1) // 2))
    long = sum(len(prompt) > kept for prompt in prompts)
    if long:
        warnings.warn(
            f"{long} of {len(prompts)} prompts are longer than {kept} tokens and lose their beginning "
            f"(the model takes {limit} tokens, {wanted} new ones are asked for)",
            stacklevel=3,
        )
    cut = [prompt[-kept:] for prompt in prompts]
    return cut, [min(wanted, limit - len(prompt)) for prompt in cut], limit
