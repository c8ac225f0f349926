"""Supervised tuning on the chosen answer with an odds ratio against the rejected one, in one phase.

    -log p(y_w|x) - weight log sigmoid(log odds(y_w|x) - log odds(y_l|x)),  odds = p / (1 - p)

log p is the mean log-probability of an answer's tokens, in nats; both terms are means over pairs. It needs no reference
and no supervised phase before it. Source: Hong et al. 2024 (arXiv:2403.07691), eq. 2, 6 and 7; its supervised loss is
of the answer alone (TRL's takes the prompt in). Errors: DataError for a row without prompt, chosen and rejected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example
from ..data.parts import pair_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ORPO"]


class ORPO(Objective):
    """Learns from pairs of answers to one prompt, in two terms: nll and odds_ratio. Reported: mean log-probabilities as
    rewards, their margin, how often it is above 0, and lengths in tokens.
    """

    example: ClassVar[dict[str, Any]] = {"weight": 0.25}
    needs: ClassVar[frozenset[str]] = frozenset({"chosen"})
    task: ClassVar[Task] = "causal_lm"
    weight: float = Field(
        0.1, gt=0, description="of the odds ratio's term beside the supervised one, the paper's lambda"
    )

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        return encoder.answers(example, pair_of(example))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"nll": batch.weights, "odds_ratio": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.branches import answer_logps, branch_counts
        from ..functional.preferences import orpo_loss, pair_figures

        lengths = branch_counts(batch).view(batch.size, -1)
        means = answer_logps(models.policy, batch) / lengths.clamp_min(1)
        odds = orpo_loss(means[:, 0], means[:, 1])
        figures = pair_figures(means, lengths, batch.weights)
        return [
            Term("nll", -means[:, 0] * batch.weights, figures=figures),
            Term("odds_ratio", odds * batch.weights, self.weight),
        ]
