"""Answers for many prompts at once: left-padded batches, a key-value cache, and draws that belong to the item.

An item's random numbers come from its own seed, so that what it is batched with changes nothing but rounding.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ModelError
from .heads import plain

__all__ = ["generate", "next_tokens"]

_Choice = Callable[[Tensor, list[int], int], Tensor]
"""[B, V] logits, the prompt of each row, the step -> [B] tokens."""


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
) -> list[list[int]]:
    """The new token ids for each prompt, in the prompts' order, without the stop token that ended them.

    temperature 0 is greedy; otherwise draws are made from the smallest set of tokens whose probability reaches `top_p`
    (Holtzman et al. 2020), with item i's numbers from seeds[i] (default: i). A batch holds at most `batch_tokens`
    positions, padding and new tokens counted. Where the model has a last position, a prompt too long for it loses its
    beginning, with a warning. The model is in eval mode meanwhile.
    Errors: ModelError for a model that keeps no key-value cache; ValueError for an empty prompt.
    """
    if seeds is not None and len(seeds) != len(prompts):
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts")
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt holds no token; give at least the begin token")
    takes = _accepted(model)
    cut, rooms, limit = _fit(model, prompts, max_new_tokens)
    order = sorted(range(len(cut)), key=lambda index: (-len(cut[index]), index))
    answers: list[list[int]] = [[] for _ in cut]
    with _evaluating(model), torch.inference_mode():
        for chosen in _batches(cut, rooms, order, batch_tokens):
            choose: _Choice = _greedy
            if temperature > 0:
                own = [seeds[index] if seeds is not None else index for index in chosen]
                choose = _sampler(own, max_new_tokens, temperature, top_p)
            batch = _Batch([cut[index] for index in chosen], [rooms[index] for index in chosen], set(stop), pad, limit)
            for index, answer in zip(chosen, _continue(model, batch, choose, takes), strict=True):
                answers[index] = answer
    return answers


def next_tokens(logits: Tensor, temperature: float, top_p: float, draw: Tensor) -> Tensor:
    """[B] tokens drawn from [B, V] logits by inverting the cumulative distribution at `draw` ([B], in [0, 1)).

    Below top_p 1 tokens stand in the order of their probability, equal ones by id; otherwise in the order of their ids.
    """
    kept = (logits.float() / temperature).softmax(-1).double()
    ids = None
    if top_p < 1:
        kept, ids = kept.sort(dim=-1, descending=True, stable=True)
        kept = kept.masked_fill(kept.cumsum(-1) - kept >= top_p, 0.0)
    reached = kept.cumsum(-1)
    place = torch.searchsorted(reached, draw[:, None] * reached[:, -1:], right=True)
    # A draw next to 1 can land behind the last token by rounding; the last one with any probability is meant.
    last = (reached < reached[:, -1:]).sum(-1, keepdim=True)
    place = torch.minimum(place, last)
    return (place if ids is None else ids.gather(-1, place)).squeeze(-1)


@dataclass(frozen=True)
class _Batch:
    """Prompts that run together: how many tokens each may add, what stops and pads, and the model's last position."""

    prompts: Sequence[Sequence[int]]
    rooms: Sequence[int]
    stop: Collection[int]
    pad: int
    limit: int | None


def _continue(model: nn.Module, batch: _Batch, choose: _Choice, takes: frozenset[str]) -> list[list[int]]:
    """One batch to its end. Finished rows leave the cache as soon as half of it is theirs."""
    device = next(model.parameters()).device
    lengths = torch.tensor([len(prompt) for prompt in batch.prompts])
    longest = int(lengths.max())
    ids = torch.tensor(
        [[batch.pad] * (longest - len(prompt)) + list(prompt) for prompt in batch.prompts], device=device
    )
    seen = (torch.arange(longest)[None] >= (longest - lengths)[:, None]).to(device)
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    cache = _cache(model)
    answers: list[list[int]] = [[] for _ in batch.prompts]
    rows = list(range(len(batch.prompts)))  # which prompt each row of the batch belongs to
    going = set(rows)
    for step in range(max(batch.rooms)):
        chosen = choose(_forward(model, ids, seen, positions, cache, takes), rows, step)
        for prompt, token in zip(rows, chosen.tolist(), strict=True):
            if prompt not in going:
                continue
            if token not in batch.stop:
                answers[prompt].append(token)
            if token in batch.stop or len(answers[prompt]) == batch.rooms[prompt]:
                going.discard(prompt)
        if not going:
            break
        if len(going) * 2 <= len(rows):
            index = torch.tensor([row for row, prompt in enumerate(rows) if prompt in going], device=device)
            cache.batch_select_indices(index)
            chosen, seen, positions = chosen[index], seen[index], positions[index]
            rows = [prompt for prompt in rows if prompt in going]
        ids = chosen[:, None]
        seen = torch.cat([seen, seen.new_ones(len(rows), 1)], dim=1)
        # Finished rows that still ride along must not run past the table of positions.
        positions = (positions[:, -1:] + 1).clamp(max=batch.limit - 1 if batch.limit else None)
    return answers


def _greedy(logits: Tensor, rows: list[int], step: int) -> Tensor:
    return logits.argmax(-1)


def _sampler(seeds: Sequence[int], count: int, temperature: float, top_p: float) -> _Choice:
    """Chooses with the numbers of each row's own seed; made on the CPU, so that every device draws the same."""
    draws = torch.stack(
        [torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    )

    def choose(logits: Tensor, rows: list[int], step: int) -> Tensor:
        return next_tokens(logits, temperature, top_p, draws[rows, step].to(logits.device))

    return choose


def _forward(
    model: nn.Module, ids: Tensor, seen: Tensor, positions: Tensor, cache: Any, takes: frozenset[str]
) -> Tensor:
    """[B, V] logits of the last position."""
    given: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": seen.long(),
        "past_key_values": cache,
        "use_cache": True,
    }
    if "position_ids" in takes:
        given["position_ids"] = positions
    if "logits_to_keep" in takes:
        given["logits_to_keep"] = 1
    logits: Tensor = model(**given).logits[:, -1]
    return logits.float()


def _accepted(model: nn.Module) -> frozenset[str]:
    inner = plain(model)
    takes = frozenset(inspect.signature(inner.forward).parameters)
    if "past_key_values" not in takes or inner.config.is_encoder_decoder:
        raise ModelError(
            f"{type(inner).__name__} cannot generate here: it keeps no key-value cache of its own text",
            expected="a decoder with attention",
            remedy="leave out checks that generate, such as text_match",
        )
    return takes


def _cache(model: nn.Module) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=plain(model).config)


def _fit(
    model: nn.Module, prompts: Sequence[Sequence[int]], wanted: int
) -> tuple[list[Sequence[int]], list[int], int | None]:
    """Prompts cut on the left where they and `wanted` new tokens exceed the model's positions, and each one's room.

    At least half of the positions stay the prompt's, so that a generous `wanted` does not cost the question.
    """
    limit: int | None = getattr(plain(model).config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return list(prompts), [wanted] * len(prompts), None
    kept = min(limit - 1, max(limit - wanted, (limit + 1) // 2))
    long = sum(len(prompt) > kept for prompt in prompts)
    if long:
        warnings.warn(
            f"{long} of {len(prompts)} prompts are longer than {kept} tokens and lose their beginning "
            f"(the model has {limit} positions, {wanted} new tokens are asked for)",
            stacklevel=3,
        )
    cut = [prompt[-kept:] for prompt in prompts]
    return cut, [min(wanted, limit - len(prompt)) for prompt in cut], limit


def _batches(
    prompts: Sequence[Sequence[int]], rooms: Sequence[int], order: Sequence[int], budget: int
) -> Iterator[list[int]]:
    """Indices in batches of like length, each within `budget` positions or a single prompt."""
    batch: list[int] = []
    width = 0
    for index in order:
        wider = max(width, len(prompts[index]) + rooms[index])
        if batch and (len(batch) + 1) * wider > budget:
            yield batch
            batch, wider = [], len(prompts[index]) + rooms[index]
        batch.append(index)
        width = wider
    if batch:
        yield batch


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
