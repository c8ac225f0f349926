"""Classification of a text: one class (cross-entropy) or any number of them (binary cross-entropy).

Losses are in nats: a sequence for one class, a sequence summed over classes for several. Several labels are used when a
row's target is a list. Source: Bishop 2006, section 4.3; class weights "balanced" after King and Zeng 2001.
Errors: a class that stands only in validation or test data is refused, with the row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.errors import DataError, nearest, shortened
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Classify"]

_NAMED = (
    "name the label's column with columns: {label: ...}; training rows that are to have none are left out by "
    "classify: {unlabeled: leave_out}"
)
_MEASURED = (
    "rows to measure on need their class: name files of labeled rows as data.validation and data.test, since a share "
    "of the training rows takes some without one along"
)


class Classify(Objective):
    """class_weights: "balanced" weighs each class by rows / (classes x its rows); of several labels each for itself,
    rows with it by rows / (2 x such rows), and rows without it likewise. label_smoothing: 0 to 1.
    """

    example: ClassVar[dict[str, Any]] = {"class_weights": "balanced", "label_smoothing": 0.05}
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    task: ClassVar[Task] = "sequence_classification"
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    unlabeled: Literal["refuse", "leave_out"] = Field(
        "refuse", description="what happens to training rows without a class, which a later phase may learn from"
    )

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """classes (sorted), multi_label, and class_weights by class."""
        if self.unlabeled == "leave_out":
            examples = [example for example in examples if example.target is not None]
        _refuse_unlabeled(examples)
        several = any(isinstance(example.target, tuple) for example in examples)
        counts = Counter(label for example in examples for label in _labels(example))
        classes = sorted(counts)
        if len(classes) < 2:
            raise DataError(
                f"the training data holds {len(classes)} class{'' if len(classes) == 1 else 'es'}"
                + (f", '{shortened(classes[0])}'" if classes else ""),
                where=examples[0].origin.file if examples else None,
                expected="at least two classes to tell apart",
                remedy="check which column holds the label, and whether a step dropped the other classes",
            )
        return {
            "classes": classes,
            "multi_label": several,
            "class_weights": self._weights(counts, len(examples), several),
        }

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        _refuse_unlabeled(held_out, _MEASURED if self.unlabeled == "leave_out" else _NAMED)
        known = frozenset(facts["classes"])
        unknown = [(row, label) for row in held_out for label in _labels(row) if label not in known]
        if unknown:
            raise _unknown(unknown, facts["classes"])

    def _weights(self, counts: Counter[str], rows: int, several: bool) -> dict[str, Any]:
        """By class its weight; of several classes [that of rows without it, that of rows with it]."""
        balanced = self.class_weights == "balanced"
        if several:
            sides = {name: (rows - counts[name], counts[name]) for name in sorted(counts)}
            return {
                name: [rows / (2 * side) if balanced and side else 1.0 for side in pair] for name, pair in sides.items()
            }
        total = sum(counts.values())
        return {name: total / (len(counts) * counts[name]) if balanced else 1.0 for name in sorted(counts)}

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        if example.target is None and self.unlabeled == "leave_out":
            return []
        classes: list[str] = encoder.facts["classes"]
        position = {name: index for index, name in enumerate(classes)}
        labels = _labels(example)
        for label in labels:
            if label not in position:
                raise _unknown([(example, label)], classes)
        indices = [position[label] for label in labels]
        weight = 1.0
        if encoder.facts["multi_label"]:
            given = np.zeros(len(classes), dtype=np.float32)
            given[indices] = 1.0
            fields = {"label": given}
            if self.class_weights == "balanced":
                pairs = np.array([encoder.facts["class_weights"][name] for name in classes], dtype=np.float32)
                fields["label_weight"] = np.where(given > 0, pairs[:, 1], pairs[:, 0])
        else:
            fields = {"label": np.asarray(indices[0], dtype=np.int64)}
            weight = encoder.facts["class_weights"][labels[0]]
        rows = encoder.sequence(example, **fields)
        return [replace(row, weight=row.weight * weight) for row in rows]

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"cross_entropy": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        import torch
        import torch.nn.functional as F

        logits = models.policy.class_logits(batch)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labels = batch.fields["label"]
        if labels.dim() == 2:
            soft = labels * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
            weight = batch.fields.get("label_weight")
            losses = F.binary_cross_entropy_with_logits(logits, soft, weight, reduction="none").sum(-1)
        else:
            losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        return [Term("cross_entropy", losses * batch.weights)]


def _unknown(found: Sequence[tuple[Example, str]], classes: Sequence[str]) -> DataError:
    """The refusal of held-out rows whose class no training row has: the first, and how many and which there are."""
    (first, label), names = found[0], list(dict.fromkeys(name for _, name in found))
    near = nearest(label, classes)
    rows = len({row.id for row, _ in found})
    others = f"; {rows} rows have such a class, {len(names)} in all" if rows > 1 else ""
    return DataError(
        f"the class '{shortened(label)}' does not occur in the training data{others}",
        where=str(first.origin),
        expected=f"one of the {len(classes)} classes of the training data"
        + (f", such as '{shortened(near)}'" if near else ""),
        remedy="add rows of this class to the training data, or drop it from the others",
    )


def _refuse_unlabeled(examples: Sequence[Example], remedy: str = _NAMED) -> None:
    bare = [example for example in examples if example.target is None]
    if bare:
        more = f", and {len(bare) - 1} more of {len(examples)} rows have none" if len(bare) > 1 else ""
        raise DataError(
            f"the row '{bare[0].id}' has no label{more}",
            where=str(bare[0].origin),
            expected="a class for the objective classify",
            remedy=remedy,
        )


def _labels(example: Example) -> tuple[str, ...]:
    _refuse_unlabeled([example])
    return example.target if isinstance(example.target, tuple) else (str(example.target),)
