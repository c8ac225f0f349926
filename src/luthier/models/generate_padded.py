"""Generation for models that cannot be packed: left-padded batches and transformers' own key-value cache."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .decoding import Request
from .heads import plain

__all__ = ["generate_padded"]


def generate_padded(model: nn.Module, request: Request) -> list[list[int]]:
    """The new tokens of each prompt. A batch holds at most the request's budget, padding and new tokens counted.

    The caller sees to eval mode and no gradients.
    """
    takes = frozenset(inspect.signature(plain(model).forward).parameters)
    answers: list[list[int]] = [[] for _ in request.prompts]
    for batch in _batches(request):
        _continue(model, request, batch, answers, takes)
    return answers


def _continue(
    model: nn.Module, request: Request, batch: list[int], answers: list[list[int]], takes: frozenset[str]
) -> None:
    """One batch to its end. Finished rows leave the cache as soon as half of it is theirs."""
    from transformers import DynamicCache

    device = next(model.parameters()).device
    prompts = [request.prompts[item] for item in batch]
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    ids = torch.tensor([[request.pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    seen = (torch.arange(longest)[None] >= (longest - lengths)[:, None]).to(device)
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=plain(model).config)
    rows = list(batch)  # the item of each row
    going = set(rows)
    for step in range(max(request.rooms[item] for item in batch)):
        # A finished row that still rides along draws its last number again; nobody reads what comes of it.
        steps = [min(step, request.rooms[item] - 1) for item in rows]
        chosen = request.choose(_forward(model, ids, seen, positions, cache, takes), rows, steps)
        for item, token in zip(rows, chosen.tolist(), strict=True):
            if item in going and not request.accept(item, token, answers[item]):
                going.discard(item)
        if not going:
            break
        if len(going) * 2 <= len(rows):
            index = torch.tensor([row for row, item in enumerate(rows) if item in going], device=device)
            cache.batch_select_indices(index)
            chosen, seen, positions = chosen[index], seen[index], positions[index]
            rows = [item for item in rows if item in going]
        ids = chosen[:, None]
        seen = torch.cat([seen, seen.new_ones(len(rows), 1)], dim=1)
        # Finished rows that still ride along must not run past the table of positions.
        positions = positions[:, -1:] + 1
        if request.limit is not None:
            positions = positions.clamp(max=request.limit - 1)


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


def _batches(request: Request) -> Iterator[list[int]]:
    """Items in batches of like length, longest first, each within the budget or a single prompt."""
    order = sorted(range(len(request.prompts)), key=lambda item: (-len(request.prompts[item]), item))
    batch: list[int] = []
    width = 0
    for item in order:
        wider = max(width, request.needs(item))
        if batch and (len(batch) + 1) * wider > request.budget:
            yield batch
            batch, wider = [], request.needs(item)
        batch.append(item)
        width = wider
    if batch:
        yield batch
