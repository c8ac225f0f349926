"""What a generation is asked for, and how each next token is chosen.

An item's random numbers come from its own seed, so that what it is batched with changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Choice", "Listener", "Request", "chooser", "heard_by", "next_tokens"]

Choice = Callable[[Tensor, Sequence[int], Sequence[int]], Tensor]
"""[B, V] logits, the item of each row, how many tokens it already has -> [B] tokens."""

Listener = Callable[[Tensor, Sequence[int], Sequence[int], Tensor], None]
"""Told of [B, V] logits, items and steps as above, and the [B] tokens that were chosen. An item that has ended may ride
along: only the first that is heard of an item and step counts.
"""


@dataclass(frozen=True)
class Request:
    """Prompts to continue, each by at most its room, until a token of `stop`; `budget` positions run together.

    limit: how many positions the model has, None where it has no last one. pad: what fills rows that are padded.
    """

    prompts: Sequence[Sequence[int]]
    rooms: Sequence[int]
    stop: frozenset[int]
    pad: int
    limit: int | None
    budget: int
    choose: Choice

    def needs(self, item: int) -> int:
        """Positions that the item may come to take."""
        return len(self.prompts[item]) + self.rooms[item]

    def accept(self, item: int, token: int, answer: list[int]) -> bool:
        """Adds the token to the item's answer unless it stops it; whether the item goes on."""
        if token in self.stop:
            return False
        answer.append(token)
        return len(answer) < self.rooms[item]


def chooser(temperature: float, top_p: float, seeds: Sequence[int], count: int) -> Choice:
    """The most probable token at temperature 0, otherwise draws: item i's numbers, `count` of them, from seeds[i]."""
    return _Sampler(temperature, top_p, seeds, count) if temperature > 0 else _greedy


def heard_by(listener: Listener, choose: Choice) -> Choice:
    """The same choice, of which the listener is told."""

    def told(logits: Tensor, items: Sequence[int], steps: Sequence[int]) -> Tensor:
        tokens = choose(logits, items, steps)
        listener(logits, items, steps, tokens)
        return tokens

    return told


def _greedy(logits: Tensor, items: Sequence[int], steps: Sequence[int]) -> Tensor:
    # As float32: the argmax of bfloat16 takes four times as long on a CPU.
    return logits.float().argmax(-1)


@dataclass(frozen=True)
class _Sampler:
    """Numbers are made on the CPU, so that every device draws the same."""

    temperature: float
    top_p: float
    seeds: Sequence[int]
    count: int
    made: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    def __call__(self, logits: Tensor, items: Sequence[int], steps: Sequence[int]) -> Tensor:
        numbers = [self._numbers(item)[step] for item, step in zip(items, steps, strict=True)]
        draw = torch.tensor(numbers, dtype=torch.float64, device=logits.device)
        return next_tokens(logits, self.temperature, self.top_p, draw)

    def _numbers(self, item: int) -> NDArray[np.float64]:
        if item not in self.made:
            generator = torch.Generator().manual_seed(self.seeds[item])
            self.made[item] = torch.rand(self.count, generator=generator, dtype=torch.float64).numpy()
        return self.made[item]


def next_tokens(logits: Tensor, temperature: float, top_p: float, draw: Tensor) -> Tensor:
    """[B] tokens drawn from [B, V] logits by inverting the cumulative distribution at `draw` ([B], in [0, 1)).

    Below top_p 1 tokens stand in the order of their probability, equal ones by id; otherwise in the order of their ids.
    """
    kept = (logits.float() / temperature).softmax(-1)
    ids = None
    if top_p < 1:
        kept, ids = kept.double().sort(dim=-1, descending=True, stable=True)
        kept = kept.masked_fill(kept.cumsum(-1) - kept >= top_p, 0.0)
    reached = kept.cumsum(-1, dtype=torch.float64)
    place = torch.searchsorted(reached, draw[:, None] * reached[:, -1:], right=True)
    if bool((place == reached.shape[-1]).any()):
        # A draw next to 1 landed behind the last token by rounding; the last one with any probability is meant.
        place = torch.minimum(place, (reached < reached[:, -1:]).sum(-1, keepdim=True))
    return (place if ids is None else ids.gather(-1, place)).squeeze(-1)
