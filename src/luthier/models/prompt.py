"""Trained embeddings in front of every text; what comes out has the states of the text's own tokens alone.

    pack      [p p a a a | p p b b]     positions 0 1 | 2 3 4, 0 1 | 2 3; boundaries moved by what was put in
    padded    p p a a a . .             before all padding, wherever that is
    cache     the prompt goes in with a text's first tokens; later ones are told of it by position and mask

So heads, losses and samplers know nothing of it. Errors: ModelError where text and prompt exceed the positions.
"""

from __future__ import annotations

from functools import wraps
from inspect import signature
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ModelError
from .attention import backbone_of, transformer_of
from .positions import text_positions

__all__ = ["Prompt", "attach_prompt", "has_prompt", "text_room"]


class Prompt(nn.Module):
    """Embeddings [P, H] in float32, over a base of any dtype. positions: what the model has for prompt and text."""

    def __init__(self, rows: Tensor, positions: int | None) -> None:
        super().__init__()
        self.positions = positions
        self.weight = nn.Parameter(rows.detach().float().clone())

    def rows(self, count: int, dtype: torch.dtype) -> Tensor:
        """[count, P, H], the same for each."""
        return self.weight.to(dtype).expand(count, -1, -1)


def attach_prompt(model: nn.Module, length: int) -> nn.Module:
    """The model with a prompt of `length`, which begins as embeddings of tokens drawn at random; in place.

    The backbone's own forward pass is replaced on the instance, inside all of its hooks; names of weights stay.
    """
    inner = transformer_of(model)
    if inner.config.is_encoder_decoder:
        raise ModelError(
            f"{type(inner).__name__} has an encoder and a decoder, and a prompt goes before one text",
            expected="a decoder or an encoder",
            remedy="use lora, which goes with any model",
        )
    backbone: Any = backbone_of(inner)
    table = backbone.get_input_embeddings().weight
    rows = table[torch.randint(len(table), (length,)).to(table.device)]
    backbone.add_module("prompt", Prompt(rows, text_positions(inner)))
    backbone.forward = MethodType(_prompted(type(backbone).forward), backbone)
    return model


def has_prompt(model: nn.Module) -> bool:
    """Whether a prompt goes in before this model's texts."""
    return _prompt_of(model) is not None


def text_room(model: nn.Module) -> int | None:
    """Tokens that a text may have, behind a prompt where there is one; None: there is no last position."""
    positions, prompt = text_positions(model), _prompt_of(model)
    return positions if positions is None or prompt is None else positions - len(prompt.weight)


def _prompt_of(model: nn.Module) -> Prompt | None:
    found = backbone_of(transformer_of(model))._modules.get("prompt")
    return found if isinstance(found, Prompt) else None


def _prompted(own: Any) -> Any:
    """A backbone's forward pass with the prompt put in, and its states taken out again."""

    @wraps(own)
    def forward(self: Any, *arguments: Any, **options: Any) -> Any:
        given = signature(own).bind_partial(self, *arguments, **options).arguments
        inputs = {name: value for name, value in given.items() if name != "self"}
        inputs |= inputs.pop("kwargs", {})
        if inputs.get("input_ids") is None:
            raise ModelError("a prompt goes before tokens, and this call has none", expected="input_ids")
        packed = inputs.get("cu_seq_lens_q") is not None
        changed, at = _in_pack(self, inputs) if packed else _in_rows(self, inputs)
        output = own(self, **changed)
        return output if at is None else _without_prompt(self, output, at)

    return forward


def _in_pack(backbone: Any, inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor]:
    """The inputs of a pack with the prompt before each sequence, and where the text's own tokens then are."""
    if inputs.get("cu_seq_lens_k") is not None:
        raise ModelError("a prompt cannot go before rows that branch", expected="each branch as a sequence")
    embedded = backbone.get_input_embeddings()(inputs.pop("input_ids"))[0]
    starts, size = inputs["cu_seq_lens_q"].cpu().long(), len(backbone.prompt.weight)
    lengths, sequences = starts.diff(), len(starts) - 1
    _refuse_too_long(backbone, int(lengths.max()), size)
    sequence = torch.repeat_interleave(torch.arange(sequences), lengths)
    at = torch.arange(len(embedded)) + size * (sequence + 1)
    ahead = ((starts[:-1] + size * torch.arange(sequences))[:, None] + torch.arange(size)).flatten()
    order = torch.empty(len(at) + len(ahead), dtype=torch.long)
    order[ahead], order[at] = torch.arange(len(ahead)), len(ahead) + torch.arange(len(at))
    order, at = order.to(embedded.device), at.to(embedded.device)
    # Every row is used once: were they shared, their gradients would be summed in the products' dtype.
    rows = torch.cat([backbone.prompt.rows(sequences, embedded.dtype).flatten(0, 1), embedded])
    positions = inputs["position_ids"][0]
    first = positions[starts[:-1].to(positions.device)]
    counted = (first[:, None] + torch.arange(size, device=positions.device)).flatten()
    return inputs | {
        "inputs_embeds": rows.index_select(0, order)[None],
        "position_ids": torch.cat([counted, positions + size]).index_select(0, order)[None],
        "cu_seq_lens_q": (starts + size * torch.arange(sequences + 1)).int(),
    }, at


def _in_rows(backbone: Any, inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
    """The inputs of rows with the prompt before each; None where an earlier call has put it there."""
    ids, cache, size = inputs["input_ids"], inputs.get("past_key_values"), len(backbone.prompt.weight)
    known = cache.get_seq_length() if cache is not None else 0
    changed = dict(inputs)
    mask, positions, kinds = (inputs.get(name) for name in ("attention_mask", "position_ids", "token_type_ids"))
    if mask is not None:
        changed["attention_mask"] = torch.cat([mask.new_ones(len(mask), size), mask], dim=1)
    if positions is not None:
        ahead = torch.arange(size, device=ids.device).expand(len(positions), -1)
        changed["position_ids"] = positions + size if known else torch.cat([ahead, positions + size], dim=1)
    if known:
        return changed, None
    _refuse_too_long(backbone, ids.shape[1], size)
    if kinds is not None:
        changed["token_type_ids"] = torch.cat([kinds.new_zeros(len(kinds), size), kinds], dim=1)
    embedded = backbone.get_input_embeddings()(changed.pop("input_ids"))
    changed["inputs_embeds"] = torch.cat([backbone.prompt.rows(len(ids), embedded.dtype), embedded], dim=1)
    return changed, torch.arange(size, size + ids.shape[1], device=ids.device)


def _without_prompt(backbone: Any, output: Any, at: Tensor) -> Any:
    """The states at the text's own tokens; a pooler reads the text's first."""
    output.last_hidden_state = output.last_hidden_state.index_select(1, at)
    if output.get("hidden_states") is not None:
        output.hidden_states = tuple(states.index_select(1, at) for states in output.hidden_states)
    if output.get("pooler_output") is not None:
        output.pooler_output = backbone.pooler(output.last_hidden_state)
    return output


def _refuse_too_long(backbone: Any, length: int, size: int) -> None:
    limit = backbone.prompt.positions
    if limit is not None and length + size > limit:
        raise ModelError(
            f"a text of {length} tokens and a prompt of {size} exceed the model's {limit} positions",
            expected=f"texts of at most {limit - size} tokens",
            remedy=f"set max_length: {limit - size}, or a shorter prompt",
        )
