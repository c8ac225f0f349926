"""Distances between what a teacher and a student say: whole distributions, their most probable outcomes, or states.

Shapes: n positions, V outcomes (pieces of a vocabulary, classes), k of them, H wide. Units: nats. A temperature T
divides logits; whoever adds the distance to another loss multiplies it by T^2, so that gradients keep their size
(Hinton et al. 2015, arXiv:1503.02531, section 2). Computed in float32 at least.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Divergence", "States", "class_divergence", "divergence", "shortlist", "shortlisted", "state_distance"]

Divergence = Literal["forward_kl", "reverse_kl", "jensen_shannon"]
States = Literal["squared", "cosine"]


def divergence(student: Tensor, teacher: Tensor, kind: Divergence, beta: float = 0.5) -> Tensor:
    """[...] between log-probabilities [..., V] of the same outcomes; the gradient goes to the student.

    forward_kl: KL(teacher || student), which covers all that the teacher does. reverse_kl: KL(student || teacher),
    which keeps to what it does most. jensen_shannon: with M = beta teacher + (1 - beta) student, beta KL(teacher || M)
    + (1 - beta) KL(student || M), at most ln 2; near beta 0 it is beta times forward_kl, near 1 (1 - beta) times
    reverse_kl (Agarwal et al. 2024, arXiv:2306.13649, eq. 1).
    """
    teacher = teacher.detach()
    if kind == "forward_kl":
        return _kl(teacher, student)
    if kind == "reverse_kl":
        return _kl(student, teacher)
    middle = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    return beta * _kl(teacher, middle) + (1 - beta) * _kl(student, middle)


def class_divergence(
    student: Tensor, teacher: Tensor, kind: Divergence, temperature: float, beta: float = 0.5, *, several: bool = False
) -> Tensor:
    """[S] between logits [S, C]; several: of classes that are there or not each for itself, added up over them."""
    pair = [_wide(logits) / temperature for logits in (student, teacher)]
    if several:
        pair = [torch.stack([logits, torch.zeros_like(logits)], -1) for logits in pair]
    found = divergence(pair[0].log_softmax(-1), pair[1].log_softmax(-1), kind, beta)
    return found.sum(-1) if several else found


def state_distance(student: Tensor, teacher: Tensor, kind: States) -> Tensor:
    """[n] between hidden states [n, H]; the gradient goes to the student.

    squared: the mean of squared differences over H (Jiao et al. 2020, TinyBERT, arXiv:1909.10351, eq. 8). cosine: 1 -
    the cosine of the two, which leaves lengths out (Sanh et al. 2019, DistilBERT, arXiv:1910.01108, section 3).
    """
    student, teacher = _wide(student), _wide(teacher.detach())
    if kind == "cosine":
        return 1 - torch.cosine_similarity(student, teacher, dim=-1)
    return (student - teacher).square().mean(-1)


def shortlist(logits: Tensor, count: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The `count` most probable outcomes of logits [n, V], as ids [n, k] int32 and their log-probabilities at the
    temperature: [n, k + 1] float32, the last that of all others together; [n, k] where there are no others.
    """
    _, ids = logits.topk(min(count, logits.shape[-1]), dim=-1)
    return ids.int(), shortlisted(logits, ids, temperature).float()


def shortlisted(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """[n, k + 1] log-probabilities of the outcomes ids [n, k], and of all others together, at the temperature; [n, k]
    where ids are all.

    Between distributions coarsened alike every distance above is at most what it is between whole ones, and equal to it
    where k = V, or where both share alike among the others. Scaling k to 1 would make probabilities up.
    """
    scaled = _wide(logits) / temperature
    ids = ids.long()
    whole = scaled.logsumexp(-1, keepdim=True)
    chosen = scaled.gather(-1, ids) - whole
    if ids.shape[-1] == logits.shape[-1]:
        return chosen
    others = scaled.scatter(-1, ids, -math.inf).logsumexp(-1, keepdim=True) - whole
    return torch.cat([chosen, others], -1)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    return (first.exp() * (first - second)).sum(-1)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
