"""Where a loss is divided, and nowhere else.

Every objective and penalty gives sums; a step's loss is the sum of each term over all micro-batches divided by the
term's count over all of them, so that the gradient equals that of one big batch however it is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.contracts import Batch, Models, Objective, Penalty, Term
from .meter import Meter

__all__ = ["StepLoss", "accumulate", "mean_loss", "step_counts"]


@dataclass(frozen=True)
class StepLoss:
    """A step's loss (the objective's and penalties' weighted terms) and what each term came to, by name."""

    loss: float
    terms: Mapping[str, float]
    tokens: int
    supervised: int


def step_counts(objective: Objective, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Each term's count over all micro-batches of the step, before the first backward."""
    totals: dict[str, Tensor] = {}
    for batch in batches:
        for name, counts in objective.counts(batch).items():
            totals[name] = totals[name] + counts.sum() if name in totals else counts.sum()
    return totals


def accumulate(
    objective: Objective,
    penalties: Sequence[tuple[Penalty, Any]],
    models: Models,
    batches: Sequence[Batch],
    meter: Meter | None = None,
) -> StepLoss:
    """Gradients of the whole step, micro-batch by micro-batch; nothing is averaged over micro-batches.

    meter: is told the seconds of forward and backward.
    """
    meter = meter or Meter()
    counts = step_counts(objective, batches)
    sums: dict[str, Tensor] = {}
    for batch in batches:
        with meter.part("forward"):
            loss = _share(objective.loss(models, batch), counts, sums)
        _backward(loss, meter)
    for penalty, state in penalties:
        with meter.part("forward"):
            loss = _share(penalty.terms(models, None, state), {}, sums)
        _backward(loss, meter)
    terms = {name: value.item() for name, value in sums.items()}
    tokens = sum(batch.ids.numel() for batch in batches)
    supervised = int(sum(batch.supervised.sum() for batch in batches))
    return StepLoss(sum(terms.values()), terms, tokens, supervised)


def _backward(loss: Tensor, meter: Meter) -> None:
    if loss.requires_grad:
        with meter.part("backward"):
            loss.backward()  # type: ignore[no-untyped-call]


def _share(terms: Sequence[Term], counts: Mapping[str, Tensor], sums: dict[str, Tensor]) -> Tensor:
    """The terms' part of the step's loss. A term without a count is evaluated once a step and counts 1."""
    parts = []
    for term in terms:
        count = counts.get(term.name)
        total = term.weight * term.totals.sum()
        # A step with nothing supervised has nothing to learn: zero, attached to the graph, not 0/0.
        part = total if count is None else total / count.clamp_min(1e-12) if bool(count > 0) else total * 0.0
        sums[term.name] = sums.get(term.name, torch.zeros((), device=part.device)) + part.detach()
        parts.append(part)
    return torch.stack(parts).sum()


@torch.no_grad()
def mean_loss(objective: Objective, models: Models, batches: Sequence[Batch]) -> float:
    """The objective's loss over batches, divided once by all their counts; nothing is trained."""
    counts = step_counts(objective, batches)
    sums: dict[str, Tensor] = {}
    for batch in batches:
        _share(objective.loss(models, batch), counts, sums)
    return float(sum(value.item() for value in sums.values()))
