"""Classification with unlabeled rows: what is said of a text must hold for its variants (unsupervised augmentation).

    cross-entropy of labeled rows + weight x mean over unlabeled rows of
        [max p(x) > confidence] KL(p(x) sharpened || p(variant of x)),    p(x) sharpened = softmax(logits / temperature)

In nats. p(x) is said by the model as it is in that step, in eval mode and without gradient; the mean is over all
unlabeled rows of the step, sure or not. Variants are made by data steps (`steps: [{token_edits: {times: 4}}]`, or
`paraphrase`, `back_translation`, `mask_substitution`): an epoch takes one of each row, the next epoch another. Without
one, the model is held to its own answer under dropout. Use it where labels are few, unlabeled texts many, and a good
way of saying texts differently is at hand. Source: Xie et al. 2020 (arXiv:1904.12848), without its annealing of the
labeled loss. Errors: DataError where no row lacks a class, for several classes a row, and for rows that classify
refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Models, Term
from ..core.unlabeled import Unlabeled

__all__ = ["UDA"]


class UDA(Unlabeled):
    """Trains a classifier from rows of which only some have a class. Reported: the share of unlabeled rows that the
    model is sure of (sure).
    """

    example: ClassVar[dict[str, Any]] = {"confidence": 0.6, "temperature": 0.8, "unlabeled": 3.0}
    confidence: float = Field(
        0.8, ge=0, lt=1, description="an unlabeled row is learned from where its class is said with more than this"
    )
    temperature: float = Field(0.4, gt=0, description="divides the logits of what is learned; below 1 it is sharper")

    def collect(self, models: Models, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The variants, with what the model says of the texts as they are."""
        from ..models.views import second_views

        return second_views(models.policy, batches)

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.consistency import sharpened_losses, terms, wide

        logits = wide(models.policy.class_logits(batch))
        apart, sure = sharpened_losses(logits, batch.fields["said"], self.temperature, self.confidence)
        return terms(batch, logits, apart, batch.fields["label"] < 0, self.weight, {"sure": sure})
