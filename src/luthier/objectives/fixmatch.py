"""Classification with unlabeled rows: the class that a text is surely said to have is learned from its variants.

    cross-entropy of labeled rows + weight x mean over unlabeled rows of
        [max p(x) >= confidence] cross-entropy of the variant of x with argmax p(x)

In nats. p(x) is said by the model as it is in that step, in eval mode and without gradient; the mean is over all
unlabeled rows of the step, sure or not. The weak view is the text as it is, the strong one a variant that a data step
has made (`steps: [{token_edits: {times: 4, rate: 0.3}}]`): an epoch takes one of each row, the next epoch another. As
`uda` with hard labels: there is no temperature to choose, and a wrong class that the model is sure of is learned in
full. Source: Sohn et al. 2020 (arXiv:2001.07685), eq. 3 and 4. Errors: DataError where no row lacks a class, for
several classes a row, and for rows that classify refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Models, Term
from ..core.unlabeled import Unlabeled

__all__ = ["FixMatch"]


class FixMatch(Unlabeled):
    """Trains a classifier from rows of which only some have a class. Reported: the share of unlabeled rows that the
    model is sure of (sure).
    """

    example: ClassVar[dict[str, Any]] = {"confidence": 0.8, "weight": 0.5}
    confidence: float = Field(
        0.95, ge=0, le=1, description="an unlabeled row is learned from where its class is said with at least this"
    )

    def collect(self, models: Models, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The strong views, with what the model says of the weak ones."""
        from ..models.views import second_views

        return second_views(models.policy, batches)

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.consistency import pseudo_label_losses, terms, wide

        logits = wide(models.policy.class_logits(batch))
        apart, sure = pseudo_label_losses(logits, batch.fields["said"], self.confidence)
        return terms(batch, logits, apart, batch.fields["label"] < 0, self.weight, {"sure": sure})
