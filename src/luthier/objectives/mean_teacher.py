"""Classification with unlabeled rows: the model is held to the mean of its own weights over the steps (mean teacher).

    cross-entropy of labeled rows + weight x mean over all rows of  sum over classes of (p(variant of x) - p'(x))^2

p' is said by the teacher, whose weights are decay x its own + (1 - decay) x the model's after each step (in the first
steps their plain mean), in eval mode and without gradient. It needs no threshold, and learns from rows that nobody is
sure of. Variants of unlabeled rows are made by data steps (`steps: [token_edits]`); labeled rows, and rows without a
variant, differ by dropout alone. What is validated and kept is the teacher. The paper's weight rises from 0 with the
steps; here the teacher begins as the model itself, which asks little at first. Source: Tarvainen and Valpola 2017
(arXiv:1703.01780), whose weight of 100 for the mean over 10 classes is 10 for their sum. Errors: DataError where no row
lacks a class, for several classes a row, and for rows that classify refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Models, Term
from ..core.unlabeled import Unlabeled

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MeanTeacher"]


class MeanTeacher(Unlabeled):
    """Trains a classifier from rows of which only some have a class. Reported: how often model and teacher name the
    same class (agreement).
    """

    example: ClassVar[dict[str, Any]] = {"decay": 0.95, "weight": 3.0}
    weight: float = Field(10.0, gt=0, description="of the distance to the teacher")
    decay: float = Field(0.99, ge=0, lt=1, description="what the teacher keeps of itself at each step")

    @property
    def averaging(self) -> float:
        return self.decay

    def collect(self, models: Models, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The variants, with what the teacher says of the texts as they are."""
        from ..models.views import second_views

        return second_views(models.average, batches)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().counts(batch), "consistency": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.consistency import squared_distances, terms, wide

        logits, said = wide(models.policy.class_logits(batch)), batch.fields["said"]
        agreement = logits.argmax(-1) == said.argmax(-1)
        every = batch.weights >= 0
        return terms(batch, logits, squared_distances(logits, said), every, self.weight, {"agreement": agreement})
