"""Generation for models that cannot be packed: left-padded batches and transformers' own key-value cache."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .decoding import Request
from .heads import plain
from .rotary import frequency_limit

__all__ = ["generate_padded"]


def generate_padded(model: nn.Module, request: Request) -> list[list[int]]:
    """The new tokens of each prompt. A batch holds at most the request's budget, padding and new tokens counted.

    Where frequencies turn with the length of a text (models/rotary.py), one that grows beyond the limit is read anew.
    The caller sees to eval mode and no gradients.
    """
    takes = frozenset(inspect.signature(plain(model).forward).parameters)
    edge = frequency_limit(plain(model).config.get_text_config())
    answers: list[list[int]] = [[] for _ in request.prompts]
    waiting = list(range(len(answers)))
    while waiting:
        waiting = [
            item
            for batch in _batches(request, waiting, answers, edge)
            for item in _continue(model, request, batch, answers, takes, edge)
        ]
    return answers


def _continue(
    model: nn.Module,
    request: Request,
    batch: list[int],
    answers: list[list[int]],
    takes: frozenset[str],
    edge: int | None,
) -> list[int]:
    """One batch to its end; gives the items that grew beyond `edge`, where it lies before that end.

    Finished rows leave the cache as soon as half of it is theirs.
    """
    from transformers import DynamicCache

    device = next(model.parameters()).device
    prompts = [[*request.prompts[item], *answers[item]] for item in batch]
    begun = {item: len(answers[item]) for item in batch}
    edge = None if edge is None or len(prompts[0]) > edge else edge
    limits = [limit for limit in (request.limit, edge) if limit is not None]
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    ids = torch.tensor([[request.pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    seen = (torch.arange(longest)[None] >= (longest - lengths)[:, None]).to(device)
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=plain(model).config)
    rows = list(batch)  # the item of each row
    going, grown = set(rows), []
    for step in range(max(request.rooms[item] - begun[item] for item in batch)):
        # A finished row that still rides along draws its last number again; nobody reads what comes of it.
        steps = [min(begun[item] + step, request.rooms[item] - 1) for item in rows]
        chosen = request.choose(_forward(model, ids, seen, positions, cache, takes), rows, steps)
        for item, token in zip(rows, chosen.tolist(), strict=True):
            if item in going and not request.accept(item, token, answers[item]):
                going.discard(item)
            elif item in going and edge is not None and len(request.prompts[item]) + len(answers[item]) > edge:
                going.discard(item)
                grown.append(item)
        if not going:
            break
        if len(going) * 2 <= len(rows):
            index = torch.tensor([row for row, item in enumerate(rows) if item in going], device=device)
            cache.batch_select_indices(index)
            chosen, seen, positions = chosen[index], seen[index], positions[index]
            rows = [item for item in rows if item in going]
        ids = chosen[:, None]
        seen = torch.cat([seen, seen.new_ones(len(rows), 1)], dim=1)
        # Finished rows that still ride along must not run past the table of positions, nor turn the frequencies.
        positions = positions[:, -1:] + 1
        if limits:
            positions = positions.clamp(max=min(limits) - 1)
    return grown


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


def _batches(
    request: Request, items: Sequence[int], answers: Sequence[Sequence[int]], edge: int | None
) -> Iterator[list[int]]:
    """Items in batches of like length, longest first, each within the budget or a single prompt.

    None holds texts of up to `edge` tokens and longer ones.
    """
    lengths = {item: len(request.prompts[item]) + len(answers[item]) for item in items}
    batch: list[int] = []
    width = 0
    for item in sorted(items, key=lambda item: (-lengths[item], item)):
        wider = max(width, request.needs(item))
        turns = edge is not None and bool(batch) and lengths[batch[0]] > edge >= lengths[item]
        if batch and (turns or (len(batch) + 1) * wider > request.budget):
            yield batch
            batch, wider = [], request.needs(item)
        batch.append(item)
        width = wider
    if batch:
        yield batch
