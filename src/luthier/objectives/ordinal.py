"""Classes that have an order, such as grades: an error counts by how far it is off.

    sum over levels k of (P(y <= k) - [y <= k])^2,    P from a softmax over the levels

The squared earth mover's distance, a mean over rows, 0 to the number of levels less one. The model is an ordinary
classifier whose classes stand in their order. Source: Hou et al. 2016 (arXiv:1611.05916), eq. 5. Errors: DataError for
a row without a class, or with one that is not among the levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.errors import DataError, nearest, shortened
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Ordinal"]


class Ordinal(Objective):
    """levels: the classes in their order, the lowest first; whole numbers may stand as such."""

    example: ClassVar[dict[str, Any]] = {"levels": ["varnish", "strings", "bridge"]}
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    task: ClassVar[Task] = "sequence_classification"
    levels: tuple[str, ...] = Field(min_length=2, description="the classes in their order, the lowest first")

    @field_validator("levels", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        plain = isinstance(value, (list, tuple))
        return tuple(str(item) if type(item) is int else item for item in value) if plain else value

    @field_validator("levels")
    @classmethod
    def _once(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((name for name in levels if levels.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the level '{shortened(twice)}' is named twice")
        return levels

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """classes: the levels in their order."""
        for example in examples:
            _place(_label(example), self.levels, example)
        return {"classes": list(self.levels), "multi_label": False}

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        for example in held_out:
            _place(_label(example), facts["classes"], example)

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        place = _place(_label(example), encoder.facts["classes"], example)
        return encoder.sequence(example, label=np.asarray(place, dtype=np.int64))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"distance": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        import torch

        logits = models.policy.class_logits(batch)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        upto = torch.arange(logits.shape[-1], device=logits.device) >= batch.fields["label"][:, None]
        losses = (logits.softmax(-1).cumsum(-1) - upto.to(logits)).square()[:, :-1].sum(-1)
        return [Term("distance", losses * batch.weights)]


def _label(example: Example) -> str:
    if example.target is None or isinstance(example.target, tuple):
        raise DataError(
            f"the row '{example.id}' has {'several classes' if example.target else 'no class'}",
            where=str(example.origin),
            expected="one class for the objective ordinal",
            remedy="name the label's column with columns: {label: ...}",
        )
    return f"{example.target:g}" if isinstance(example.target, float) else example.target


def _place(name: str, classes: Sequence[str], example: Example) -> int:
    if name not in classes:
        near = nearest(name, classes)
        raise DataError(
            f"the class '{shortened(name)}' is none of the levels",
            where=str(example.origin),
            expected=f"one of the {len(classes)} levels" + (f", such as '{shortened(near)}'" if near else ""),
            remedy="add it to levels, or mend the row",
        )
    return list(classes).index(name)
