"""Generation from encoder-decoders: prompts are read once, answers grow over transformers' own key-value cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from ..functional.packing import micro_batches
from .decoding import Request
from .encoder_decoder import start_token
from .heads import plain

__all__ = ["generate_encoded"]


def generate_encoded(model: nn.Module, request: Request) -> list[list[int]]:
    """The new tokens of each prompt, in batches of like length, each within the request's budget or a single prompt.

    The padding token is never chosen: some models begin an answer with it and would end in it. The caller sees to eval
    mode and no gradients.
    """
    answers: list[list[int]] = [[] for _ in request.prompts]
    needs = [request.needs(item) for item in range(len(answers))]
    order = sorted(range(len(answers)), key=lambda item: (-len(request.prompts[item]), item))
    for batch in micro_batches(order, needs, request.budget):
        _answer(plain(model), request, batch, answers)
    return answers


def _answer(model: Any, request: Request, batch: list[int], answers: list[list[int]]) -> None:
    """One batch to its end. Finished rows leave the cache as soon as half of it is theirs."""
    device = next(model.parameters()).device
    lengths = torch.tensor([len(request.prompts[item]) for item in batch])
    longest = int(lengths.max())
    prompts = [[*request.prompts[item], *[request.pad] * (longest - len(request.prompts[item]))] for item in batch]
    seen = (torch.arange(longest) < lengths[:, None]).long().to(device)
    read = model.get_encoder()(input_ids=torch.tensor(prompts, device=device), attention_mask=seen).last_hidden_state
    ids = torch.full((len(batch), 1), start_token(model), device=device)
    rows, going = list(batch), set(batch)
    cache: Any = None
    for step in range(max(request.rooms[item] for item in batch)):
        logits, cache = _forward(model, read, seen, ids, cache)
        if request.pad not in request.stop:
            logits[:, request.pad] = -torch.inf
        # A finished row that still rides along draws its last number again; nobody reads what comes of it.
        chosen = request.choose(logits, rows, [min(step, request.rooms[item] - 1) for item in rows])
        for item, token in zip(rows, chosen.tolist(), strict=True):
            if item in going and not request.accept(item, token, answers[item]):
                going.discard(item)
        if not going:
            break
        if len(going) * 2 <= len(rows):
            index = torch.tensor([row for row, item in enumerate(rows) if item in going], device=device)
            cache.batch_select_indices(index)
            read, seen, chosen = read[index], seen[index], chosen[index]
            rows = [item for item in rows if item in going]
        ids = chosen[:, None]


def _forward(model: Any, read: Tensor, seen: Tensor, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """[B, V] logits after the last token, and the cache with that token in it."""
    out = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=read),
        attention_mask=seen,
        decoder_input_ids=ids,
        past_key_values=cache,
        use_cache=True,
    )
    return out.logits[:, -1].float(), out.past_key_values
