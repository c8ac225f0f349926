"""Distillation of a classifier: a teacher's probabilities of all classes are learned beside the label.

    hard x cross-entropy + (1 - hard) x T^2 x D(teacher's distribution, student's), both softmax(logits / T)

A mean over rows, in nats; where rows have several labels, each class is a distribution of its own, and they are added
up. The teacher is asked once, in eval mode, before the first step, and must have been trained on the same classes. Use
it to put a large classifier into a small and fast one. With `layers` the states of the teacher's layers are learned
too, in the mean over a row's tokens, through linear maps that are trained beside the model and left out of it where the
two are not equally wide; the teacher is then asked at every step. Source: Hinton et al. 2015 (arXiv:1503.02531),
section 2; Jensen-Shannon: Agarwal et al. 2024 (arXiv:2306.13649), eq. 1; states: Jiao et al. 2020 (TinyBERT,
arXiv:1909.10351), eq. 8, Sanh et al. 2019 (DistilBERT, arXiv:1910.01108). Errors: ModelError for a teacher of other
classes, with another tokenizer or without these layers; DataError for rows that classify refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from ..core.component import build
from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example
from ..core.taught import TaughtAlike

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DistillClassify"]


class DistillClassify(TaughtAlike):
    """Rows and classes are those of classify. class_weights: as there, of all parts of the loss for single labels, of
    the labels' part for several. Reported: cross_entropy, divergence and states.
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

    def begin(self, models: Models) -> nn.Module | None:
        from ..models.states import projections

        return projections(models, self.layers)

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        return {"teacher": models.role("teacher").class_logits(batch).float()}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        learned = {"cross_entropy": batch.weights, "divergence": batch.weights}
        return {**learned, "states": batch.weights} if self.layers else learned

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.distillation import class_divergence
        from ..functional.packing import segment_sum, sequence_index
        from ..models.states import apart

        with apart(models, batch, self.layers, self.state_distance) as between:
            logits = models.policy.class_logits(batch)
        (labels,) = self._plain().loss(cast(Models, _Known(logits)), batch)
        several, teacher = batch.fields["label"].dim() == 2, batch.fields["teacher"]
        far = class_divergence(logits, teacher, self.divergence, self.temperature, self.beta, several=several)
        terms = [
            Term("cross_entropy", labels.totals, weight=self.hard),
            Term("divergence", far * batch.weights, weight=(1 - self.hard) * self.temperature**2),
        ]
        if self.layers:
            of_rows = segment_sum(between(), sequence_index(batch.starts), batch.size) / batch.starts.diff()
            terms.append(Term("states", of_rows * batch.weights, weight=self.state_weight))
        return terms


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
