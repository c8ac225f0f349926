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
    r) lie on their side of it as margin, and how often they do as accuracy.
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
        place = {index: at for at, index in enumerate(order)}
        return [_mismatched(rows, order, place[index], longest) for index in range(len(rows))]

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.branches import answer_logps

        return {"reference": answer_logps(models.role("reference"), batch)}

    def collect(self, models: Models, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The rows' own answers, with the step's z."""
        import torch

        from ..functional.branches import only_branch
        from ..models.attention import still

        drift, weights = torch.zeros(()), torch.zeros(())
        with still(models.policy.model):
            for batch in batches:
                logps = _sums(models, only_branch(batch, 1))
                drift = drift + ((logps - batch.fields["reference"][:, 1]) * batch.weights).sum().cpu()
                weights = weights + batch.weights.sum().cpu()
        baseline = (drift / weights.clamp_min(1e-12)).clamp_min(0)
        return [
            only_branch(batch, 0).with_fields(baseline=baseline.to(batch.weights).expand(batch.size))
            for batch in batches
        ]

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"kto": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.preferences import kto_figures, kto_loss

        ratios = _sums(models, batch) - batch.fields["reference"][:, 0]
        good, baseline = batch.fields["good"], batch.fields["baseline"]
        losses = kto_loss(ratios, baseline, good, self.beta)
        sides = good * self.good_weight + ~good * self.bad_weight
        figures = kto_figures(self.beta * ratios, self.beta * baseline, good, batch.weights)
        return [Term("kto", losses * sides * batch.weights, figures=figures)]


def _sums(models: Models, batch: Batch) -> Tensor:
    """[S] log-probabilities of the answers of plain rows."""
    from ..functional.packing import segment_sum, sequence_index

    logps = models.policy.logps(batch)
    return segment_sum(logps, sequence_index(batch.starts)[batch.supervised], batch.size)


def _mismatched(rows: Sequence[Row], order: Sequence[int], at: int, longest: int) -> Row:
    """The row at place `at` of the order, with the answer of the next one there that answers another prompt."""
    row = rows[order[at]]
    shared = len(row.ids) - row.branches[0]
    asked = row.ids[: shared + 1]
    following = (rows[order[(at + step) % len(rows)]] for step in range(1, len(rows) + 1))
    other = next((found for found in following if not np.array_equal(_asked(found), asked)), row)
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
