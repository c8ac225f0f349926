"""What two models with tokenizers of their own say of one text, where both tokenizers end a token at one character.

    text              t h e   v i o l i n
    one tokenizer    [the] [ vio] [lin]
    the other        [th] [e] [ violin]         both end after "the" and after "violin": two spans

Shapes: n and m tokens, N positions, V outcomes, k of them, C spans. Units: nats. Sources: Minixhofer et al. 2025 (ALM,
arXiv:2503.20083), section 3, for the probabilities of spans; Boizard et al. 2024 (ULD, arXiv:2402.12030), section 3.2,
for sorted distributions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .distillation import Divergence, divergence

__all__ = ["FIRST", "INSIDE", "OUTSIDE", "ranked", "ranks_apart", "span_divergence", "span_sums", "spans"]

OUTSIDE, INSIDE, FIRST = 0, 1, 2
"""Of a token: in no span, in one, or the one that begins it."""
_SURE = 1e-6
"""Less than this, nothing is left to the probability that another text follows."""


def spans(first: Sequence[int | None], second: Sequence[int | None]) -> tuple[list[int], list[int]]:
    """Of each token of two tokenizations of one text FIRST, INSIDE or OUTSIDE: as many spans in both, in their order.

    Given for each token: the character after it, never less than before, or None where it ends within a character.
    """
    shared = {end for end in first if end} & {end for end in second if end}
    return _marked(first, shared), _marked(second, shared)


def _marked(ends: Sequence[int | None], shared: set[int]) -> list[int]:
    marks, begin, reached = [OUTSIDE] * len(ends), 0, 0
    for at, end in enumerate(ends):
        # A token that spells nothing ends where the one before it did, and belongs to what follows.
        if end is not None and end > reached and end in shared:
            marks[begin : at + 1] = [FIRST] + [INSIDE] * (at - begin)
            begin, reached = at + 1, end
    return marks


def span_sums(logps: Tensor, marks: Tensor) -> Tensor:
    """[C] log-probabilities of whole spans, from those of their tokens [N] and marks [N] as `spans` gives them."""
    inside = marks != OUTSIDE
    number = (marks == FIRST).cumsum(0)[inside] - 1
    return logps.new_zeros(int((marks == FIRST).sum())).index_add(0, number, logps[inside])


def span_divergence(student: Tensor, teacher: Tensor, kind: Divergence, beta: float, temperature: float) -> Tensor:
    """[C] between log-probabilities [C] of spans: of this text and of any other, p^(1/T) and 1 - p^(1/T)."""
    return divergence(_of_two(student / temperature), _of_two(teacher / temperature), kind, beta)


def _of_two(logps: Tensor) -> Tensor:
    """[C, 2] log-probabilities of what has `logps` [C], and of all else."""
    logps = logps.clamp(max=-_SURE)
    return torch.stack([logps, torch.log(-torch.expm1(logps))], -1)


def ranked(logits: Tensor, count: int, temperature: float) -> Tensor:
    """[N, count + 1] probabilities of the `count` most probable outcomes of logits [N, V] at the temperature, the
    largest first, and of all others together; 0 where there are no more.
    """
    chances = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).softmax(-1)
    if count < chances.shape[-1]:
        found = chances.topk(count, dim=-1).values
        return torch.cat([found, 1 - found.sum(-1, keepdim=True)], -1)
    found = chances.sort(dim=-1, descending=True).values
    return torch.cat([found, chances.new_zeros(len(chances), count + 1 - found.shape[-1])], -1)


def ranks_apart(student: Tensor, teacher: Tensor) -> Tensor:
    """[N] between `ranked` probabilities [N, k + 1]: the sum of absolute differences, rank by rank (ULD).

    With k as large as the larger vocabulary it is exact, and never more than that with a smaller one.
    """
    return (student - teacher.detach()).abs().sum(-1)
