"""Identity preference optimization: the difference of log-ratios drawn to a fixed size, so that it cannot run off.

    (d - 1 / (2 tau))^2,  d = [log pi(y_w|x) - log pi_ref(y_w|x)] / |y_w| - [log pi(y_l|x) - log pi_ref(y_l|x)] / |y_l|

Log-ratios are means over an answer's tokens, in nats: the paper's sums make the goal depend on length, and its authors
told TRL that their results are of means. The loss is a mean over pairs, 1 / (4 tau^2) at the first step. The reference
is the model as the phase finds it, without dropout, asked once before the first step. Source: Gheshlaghi Azar et al.
2023 (arXiv:2310.12036), eq. 17. Errors: DataError for a row without prompt, chosen and rejected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example
from ..data.parts import pair_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IPO"]


class IPO(Objective):
    """Learns from pairs of answers to one prompt. Reported: mean log-ratios as rewards, their margin, how often it is
    above 0, and lengths in tokens.
    """

    example: ClassVar[dict[str, Any]] = {"tau": 0.3}
    needs: ClassVar[frozenset[str]] = frozenset({"chosen"})
    task: ClassVar[Task] = "causal_lm"
    roles: ClassVar[frozenset[str]] = frozenset({"reference"})
    tau: float = Field(0.1, gt=0, description="the wanted difference is 1 / (2 tau) nats a token; less moves farther")

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        return encoder.answers(example, pair_of(example))

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.branches import answer_logps

        return {"reference": answer_logps(models.role("reference"), batch)}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"ipo": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.branches import answer_logps, branch_counts
        from ..functional.preferences import ipo_loss, pair_figures

        lengths = branch_counts(batch).view(batch.size, -1)
        ratios = (answer_logps(models.policy, batch) - batch.fields["reference"]) / lengths.clamp_min(1)
        losses = ipo_loss(ratios[:, 0] - ratios[:, 1], self.tau)
        return [Term("ipo", losses * batch.weights, figures=pair_figures(ratios, lengths, batch.weights))]
