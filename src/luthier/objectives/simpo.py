"""Preference optimization without a reference: mean log-probabilities apart by a margin.

    -log sigmoid(beta (log pi(y_w|x) / |y_w| - log pi(y_l|x) / |y_l|) - gamma)

Log-probabilities are means over an answer's tokens, in nats, as generation ranks answers; the loss is a mean over
pairs. Nothing holds the policy where it was: keep the rate low and watch forgetting. Source: Meng et al. 2024
(arXiv:2405.14734), eq. 6; beta and gamma of its tuned settings (table 8). Errors: DataError for a row without prompt,
chosen and rejected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example
from ..data.parts import pair_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SimPO"]


class SimPO(Objective):
    """Learns from pairs of answers to one prompt. Reported: rewards (beta times the mean log-probability), their
    margin, how often it is above 0, and lengths in tokens.
    """

    example: ClassVar[dict[str, Any]] = {"beta": 2.5, "gamma": 0.5}
    needs: ClassVar[frozenset[str]] = frozenset({"chosen"})
    task: ClassVar[Task] = "causal_lm"
    beta: float = Field(2.0, gt=0, description="the reward of a nat a token")
    gamma: float = Field(1.0, ge=0, description="the margin that chosen rewards are to have over rejected ones")

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        return encoder.answers(example, pair_of(example))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"simpo": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.branches import answer_logps, branch_counts
        from ..functional.preferences import pair_figures, simpo_loss

        lengths = branch_counts(batch).view(batch.size, -1)
        means = answer_logps(models.policy, batch) / lengths.clamp_min(1)
        losses = simpo_loss(means[:, 0] - means[:, 1], self.beta, self.gamma)
        return [Term("simpo", losses * batch.weights, figures=pair_figures(self.beta * means, lengths, batch.weights))]
