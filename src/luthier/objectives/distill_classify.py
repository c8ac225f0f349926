"""Distillation of a classifier: a teacher's probabilities of all classes are learned beside the label.

    hard x cross-entropy + (1 - hard) x T^2 x D(teacher's distribution, student's), both softmax(logits / T)

A mean over rows, in nats; where rows have several labels, each class is a distribution of its own, and they are added
up. The teacher is asked once, in eval mode, before the first step, and must have been trained on the same classes. Use
it to put a large classifier into a small and fast one. Source: Hinton et al. 2015 (arXiv:1503.02531), section 2;
Jensen-Shannon: Agarwal et al. 2024 (arXiv:2306.13649), eq. 1. Errors: ModelError for a teacher of other classes or with
another tokenizer; DataError for rows that classify refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from ..core.component import build
from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example
from ..core.taught import Taught

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DistillClassify"]


class DistillClassify(Taught):
    """Rows and classes are those of classify. class_weights: as there, of both parts of the loss for single labels, of
    the labels' part for several.
    """

    example: ClassVar[dict[str, Any]] = {"teacher": "runs/teacher", "temperature": 4.0, "hard": 0.2}
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    task: ClassVar[Task] = "sequence_classification"
    class_weights: Literal["none", "balanced"] = "none"

    def _plain(self) -> Objective:
        found = build("objectives", {"classify": {"class_weights": self.class_weights}})
        assert isinstance(found, Objective)
        return found

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        return self._plain().survey(examples)

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        self._plain().require(held_out, facts)

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        return self._plain().encode(example, encoder)

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        return {"teacher": models.role("teacher").class_logits(batch).float()}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"cross_entropy": batch.weights, "divergence": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.distillation import class_divergence

        logits = models.policy.class_logits(batch)
        (labels,) = self._plain().loss(cast(Models, _Known(logits)), batch)
        several = batch.fields["label"].dim() == 2
        apart = class_divergence(logits, batch.fields["teacher"], self.divergence, self.temperature, several=several)
        return [
            Term("cross_entropy", labels.totals, weight=self.hard),
            Term("divergence", apart * batch.weights, weight=(1 - self.hard) * self.temperature**2),
        ]


@dataclass(frozen=True)
class _Known:
    """A policy whose class logits are known already: one forward pass serves both terms."""

    logits: Tensor

    @property
    def policy(self) -> _Known:
        """Itself."""
        return self

    def class_logits(self, batch: Batch) -> Tensor:
        """The logits, whatever is asked."""
        return self.logits
