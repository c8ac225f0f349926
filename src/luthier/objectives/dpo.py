"""Direct preference optimization: the chosen answer's log-ratio to the reference above the rejected one's.

    -log sigmoid(m),  m = beta [(log pi(y_w|x) - log pi_ref(y_w|x)) - (log pi(y_l|x) - log pi_ref(y_l|x))]

Log-probabilities are sums over an answer's tokens, in nats; the loss is a mean over pairs, and ln 2 at the first step.
The reference is the model as the phase finds it, without dropout, asked once before the first step. With
label_smoothing it is conservative DPO. Source: Rafailov et al. 2023 (arXiv:2305.18290), eq. 7; Mitchell 2023, "A note
on DPO with noisy preferences". Errors: DataError for a row without prompt, chosen and rejected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example
from ..data.parts import pair_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DPO"]


class DPO(Objective):
    """Learns from pairs of answers to one prompt. Reported: rewards (beta times the log-ratio), their margin, how often
    it is above 0, and lengths in tokens.
    """

    example: ClassVar[dict[str, Any]] = {"beta": 0.3, "label_smoothing": 0.1}
    needs: ClassVar[frozenset[str]] = frozenset({"chosen"})
    task: ClassVar[Task] = "causal_lm"
    roles: ClassVar[frozenset[str]] = frozenset({"reference"})
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held at the reference; less moves farther")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="the share of pairs that are taken to be the wrong way"
    )

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        return encoder.answers(example, pair_of(example))

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.branches import answer_logps

        return {"reference": answer_logps(models.role("reference"), batch)}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"dpo": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.branches import answer_logps, branch_counts
        from ..functional.preferences import dpo_loss, pair_figures

        rewards = self.beta * (answer_logps(models.policy, batch) - batch.fields["reference"])
        losses = dpo_loss(rewards[:, 0] - rewards[:, 1], self.label_smoothing)
        lengths = branch_counts(batch).view(batch.size, -1)
        return [Term("dpo", losses * batch.weights, figures=pair_figures(rewards, lengths, batch.weights))]
