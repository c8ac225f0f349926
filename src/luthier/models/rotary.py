"""Models whose rotary frequencies depend on how long a text is, and how each text keeps those of its own length.

transformers chooses the frequencies of a whole call by the longest text in it ("longrope", as Phi-3 has it: short or
long factors; "dynamic": a base that grows), so that one long text would change every short one beside it. Such models
are not packed, and texts on both sides of the limit go through the model in calls of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.contracts import Batch
from ..functional.packing import sequence_index

__all__ = ["Part", "frequency_limit", "joined", "part_of", "parts_of"]


def frequency_limit(config: Any) -> int | None:
    """How many tokens a text may have for its frequencies to be the usual ones; None where they never change."""
    given = getattr(config, "rope_parameters", None) or {}
    limits = []
    for rule in (given, *(inner for inner in given.values() if isinstance(inner, Mapping))):
        kind = rule.get("rope_type") or ""
        if kind == "longrope":
            limits.append(int(rule.get("original_max_position_embeddings") or config.max_position_embeddings))
        elif "dynamic" in kind:
            limits.append(int(config.max_position_embeddings))
    return min(limits, default=None)


@dataclass(frozen=True)
class Part:
    """Some sequences of a batch as a batch, and where its sequences, tokens and supervised tokens were in the whole."""

    batch: Batch
    sequences: Tensor
    tokens: Tensor
    supervised: Tensor


def parts_of(batch: Batch, limit: int) -> list[Part]:
    """The sequences of up to `limit` tokens, and the longer ones; empty where all are on one side."""
    long = batch.starts.diff() > limit
    if bool(long.all()) or not bool(long.any()):
        return []
    return [part_of(batch, chosen.nonzero()[:, 0]) for chosen in (~long, long)]


def part_of(batch: Batch, chosen: Tensor) -> Part:
    """The sequences `chosen` (their numbers, ascending) as a batch of their own, with their branches."""
    tokens = torch.isin(sequence_index(batch.starts), chosen).nonzero()[:, 0]
    marks = batch.supervised.index_select(0, tokens)
    number = batch.supervised.cumsum(0) - 1
    numbers = chosen.tolist()
    places = number.index_select(0, tokens)[marks]
    part = Batch(
        batch.ids.index_select(0, tokens),
        torch.cat([batch.starts[:1], batch.starts.diff().index_select(0, chosen).cumsum(0, dtype=batch.starts.dtype)]),
        batch.positions.index_select(0, tokens),
        marks,
        tuple(batch.rows[at] for at in numbers),
        batch.weights.index_select(0, chosen),
        {name: value.index_select(0, chosen) for name, value in batch.fields.items()},
        {name: tuple(values[at] for at in numbers) for name, values in batch.groups.items()},
        None if batch.targets is None else batch.targets.index_select(0, tokens),
        _branches(batch, chosen, tokens),
        tokens={name: value.index_select(0, places) for name, value in batch.tokens.items()},
        types=None if batch.types is None else batch.types.index_select(0, tokens),
    )
    return Part(part, chosen, tokens, places)


def _branches(batch: Batch, chosen: Tensor, tokens: Tensor) -> Tensor | None:
    """[B, 2] the branches of the rows `chosen`, by their numbers and their tokens' places in the part."""
    if batch.branches is None:
        return None
    rows, firsts = batch.branches[torch.isin(batch.branches[:, 0], chosen)].T.contiguous()
    return torch.stack([torch.searchsorted(chosen, rows), torch.searchsorted(tokens, firsts)], dim=1)


def joined(places: Sequence[Tensor], found: Sequence[Tensor]) -> Tensor:
    """What was found for the parts, each row at the place it has in the whole batch."""
    return torch.cat(list(found)).index_select(0, torch.cat(list(places)).argsort())
