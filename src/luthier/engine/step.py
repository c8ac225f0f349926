"""Where a loss is divided, and nowhere else.

Every objective and penalty gives sums; a step's loss is the sum of each term over all micro-batches divided by the
term's count over all of them, so that the gradient equals that of one big batch however it is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.contracts import Batch, Models, Objective, Penalty, Term
from .meter import Meter

__all__ = ["StepLoss", "accumulate", "mean_loss", "measure", "step_counts"]


@dataclass(frozen=True)
class StepLoss:
    """A step's loss (the objective's and penalties' weighted terms), what each term came to, and its figures."""

    loss: float
    terms: Mapping[str, float]
    tokens: int
    supervised: int
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass
class _Sums:
    """What the terms and figures of a step add up to, each divided by its count."""

    terms: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, Tensor] = field(default_factory=dict)

    def result(self, batches: Sequence[Batch]) -> StepLoss:
        """The step's loss; `batches`: all that went through the model."""
        terms = {name: value.item() for name, value in self.terms.items()}
        figures = {name: value.item() for name, value in self.figures.items()}
        tokens = sum(batch.ids.numel() for batch in batches)
        supervised = int(sum(batch.supervised.sum() for batch in batches))
        return StepLoss(sum(terms.values()), terms, tokens, supervised, figures)


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
    with meter.part("forward"), torch.no_grad():
        ready = objective.collect(models, batches)
    counts = step_counts(objective, ready)
    sums = _Sums()
    for batch in ready:
        with meter.part("forward"):
            loss = _share(objective.loss(models, batch), counts, sums)
        _backward(loss, meter)
    for penalty, state in penalties:
        with meter.part("forward"):
            loss = _share(penalty.terms(models, None, state), {}, sums)
        _backward(loss, meter)
    return sums.result(batches)


def _backward(loss: Tensor, meter: Meter) -> None:
    if loss.requires_grad:
        with meter.part("backward"):
            loss.backward()  # type: ignore[no-untyped-call]


def _share(terms: Sequence[Term], counts: Mapping[str, Tensor], sums: _Sums) -> Tensor:
    """The terms' part of the step's loss. A term without a count is evaluated once a step and counts 1."""
    parts = []
    for term in terms:
        count = counts.get(term.name)
        part = term.weight * _divided(term.totals.sum(), count)
        _add(sums.terms, term.name, part)
        for name, totals in term.figures.items():
            _add(sums.figures, name, _divided(totals.sum(), count))
        parts.append(part)
    return torch.stack(parts).sum()


def _divided(total: Tensor, count: Tensor | None) -> Tensor:
    if count is None:
        return total
    # A step with nothing supervised has nothing to learn: zero, attached to the graph, not 0/0.
    return total / count.clamp_min(1e-12) if bool(count > 0) else total * 0.0


def _add(sums: dict[str, Tensor], name: str, part: Tensor) -> None:
    sums[name] = sums.get(name, torch.zeros((), device=part.device)) + part.detach()


@torch.no_grad()
def measure(objective: Objective, models: Models, batches: Sequence[Batch]) -> StepLoss:
    """The objective's loss over batches, divided once by all their counts, and its figures; nothing is trained."""
    ready = objective.collect(models, batches)
    counts = step_counts(objective, ready)
    sums = _Sums()
    for batch in ready:
        _share(objective.loss(models, batch), counts, sums)
    return sums.result(batches)


def mean_loss(objective: Objective, models: Models, batches: Sequence[Batch]) -> float:
    """The loss alone of `measure`."""
    return measure(objective, models, batches).loss
