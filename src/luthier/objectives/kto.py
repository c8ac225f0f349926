"""Kahneman-Tversky optimization: single answers that are good or bad, judged against the policy's drift.

    weight (1 - sigmoid(beta (r - z)))  good;    weight (1 - sigmoid(beta (z - r)))  bad
    r = log pi(y|x) - log pi_ref(y|x),    z = max(0, mean over the step of log pi(y'|x) - log pi_ref(y'|x))

Log-probabilities are sums over an answer's tokens, in nats; the loss is a mean over rows, and half the weights' mean at
the first step. y' is another row's answer behind this row's prompt, the same in every epoch; z is of the whole step,
however it is cut, without gradient and dropout. The reference is the model as the phase finds it, asked once before the
first step. Source: Ethayarajh et al. 2024 (arXiv:2402.01306), eq. 7 and 8 and section 4.1. Errors: DataError for a row
without prompt and completion, or whose target is neither good nor bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.contracts import Batch, Encoder, Ints, Models, Objective, Row, Task, Term
from ..core.errors import DataError
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KTO"]


class KTO(Objective):
    """Learns from answers with a label each; no pairs are needed. Reported: beta z as baseline, how far rewards (beta
    r) lie on their side of it as margin, how often they do as accuracy, and rewards and lengths in tokens of good and
    of bad answers.
    """

    example: ClassVar[dict[str, Any]] = {"beta": 0.2, "bad_weight": 1.33}
    needs: ClassVar[frozenset[str]] = frozenset({"completion"})
    task: ClassVar[Task] = "causal_lm"
    roles: ClassVar[frozenset[str]] = frozenset({"reference"})
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held at the reference; less moves farther")
    good_weight: float = Field(1.0, gt=0, description="of good answers; with their number 1 to 4/3 of the bad side")
    bad_weight: float = Field(1.0, gt=0, description="of bad answers")

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        if example.target not in ("good", "bad"):
            raise DataError(
                f"the row '{example.id}' is neither good nor bad",
                where=str(example.origin),
                expected="a label for the objective kto: true or false, good or bad",
                remedy="name the label's column with columns: {label: ...}",
            )
        good = np.asarray(example.target == "good", dtype=np.bool_)
        return [replace(row, fields={"good": good}) for row in encoder.answers(example, ("completion",))]

    def complete(self, rows: Sequence[Row], seed: int) -> list[Row]:
        """Each row with a second branch: another row's answer, of another prompt where there is one."""
        longest = max((len(row.ids) for row in rows), default=0)
        order = np.argsort(np.random.PCG64(seed).random_raw(len(rows)), kind="stable").tolist()
        following = _following([_asked(rows[index]).tobytes() for index in order])
        other = {index: order[place] for index, place in zip(order, following, strict=True)}
        return [_mismatched(row, rows[other[index]], longest) for index, row in enumerate(rows)]

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.branches import answer_logps

        return {"reference": answer_logps(models.role("reference"), batch)}

    def collect(self, models: Models, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The rows' own answers, with the step's z, and its share of good ones, by weight."""
        import torch

        from ..functional.branches import only_branch
        from ..models.attention import still

        drift, good, weights = torch.zeros(()), torch.zeros(()), torch.zeros(())
        with still(models.policy.model):
            for batch in batches:
                logps = _sums(models, only_branch(batch, 1))
                drift = drift + ((logps - batch.fields["reference"][:, 1]) * batch.weights).sum().cpu()
                good = good + (batch.fields["good"] * batch.weights).sum().cpu()
                weights = weights + batch.weights.sum().cpu()
        weights = weights.clamp_min(1e-12)
        known = {"baseline": (drift / weights).clamp_min(0), "share": good / weights}
        return [
            only_branch(batch, 0).with_fields(
                **{name: value.to(batch.weights).expand(batch.size) for name, value in known.items()}
            )
            for batch in batches
        ]

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"kto": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.packing import segment_sum, sequence_index
        from ..functional.preferences import kto_figures, kto_loss

        ratios = _sums(models, batch) - batch.fields["reference"][:, 0]
        good, baseline = batch.fields["good"], batch.fields["baseline"]
        losses = kto_loss(ratios, baseline, good, self.beta)
        sides = good * self.good_weight + ~good * self.bad_weight
        tokens = segment_sum(batch.supervised.to(ratios), sequence_index(batch.starts), batch.size)
        rewards, share = self.beta * ratios, batch.fields["share"]
        figures = kto_figures(rewards, self.beta * baseline, good, share, tokens, batch.weights)
        return [Term("kto", losses * sides * batch.weights, figures=figures)]


def _sums(models: Models, batch: Batch) -> Tensor:
    """[S] log-probabilities of the answers of plain rows."""
    from ..functional.packing import segment_sum, sequence_index

    logps = models.policy.logps(batch)
    return segment_sum(logps, sequence_index(batch.starts)[batch.supervised], batch.size)


def _following(prompts: Sequence[bytes]) -> list[int]:
    """For each place that of the next other prompt, round the end; where all are alike, the next place."""
    count = len(prompts)
    found = [(place + 1) % count for place in range(count)]
    if len({*prompts}) < 2:
        return found
    for step in reversed(range(2 * count)):  # twice round: what comes after the end is known the second time
        place, after = step % count, (step + 1) % count
        found[place] = after if prompts[after] != prompts[place] else found[after]
    return found


def _mismatched(row: Row, other: Row, longest: int) -> Row:
    """The row with the other's answer as a second branch."""
    shared = len(row.ids) - row.branches[0]
    asked = row.ids[: shared + 1]
    # Behind a longer prompt the end of another answer may have no room; no gradient ever comes from it.
    begin = len(other.ids) - other.branches[0] + 1
    end = begin + max(1, longest - len(asked))
    return replace(
        row,
        ids=np.concatenate([row.ids, asked[-1:], other.ids[begin:end]]),
        supervised=np.concatenate([row.supervised, [False], other.supervised[begin:end]]),
        branches=(row.branches[0], 1 + len(other.ids[begin:end])),
    )


def _asked(row: Row) -> Ints:
    """The prompt's tokens."""
    return row.ids[: len(row.ids) - row.branches[0] + 1]
