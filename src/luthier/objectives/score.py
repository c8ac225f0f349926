"""Regression: a number for a text, by squared or absolute error.

The head says how many standard deviations of the training numbers a text lies from their mean; a loss is in these
units (squared where `error` says so), a mean over rows. The mean and the deviation stand in the run's facts and in the
exported configuration as `target`, and checks and `luthier generate` give numbers in the data's own units. Source:
Bishop 2006, section 3.1; Huber 1964. Errors: DataError for rows without a finite number, or all with the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.errors import DataError
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Score"]


class Score(Objective):
    """Learns from texts with a number; whole numbers that were read as classes count too."""

    example: ClassVar[dict[str, Any]] = {"error": "huber"}
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    task: ClassVar[Task] = "sequence_score"
    error: Literal["squared", "absolute", "huber"] = Field(
        "squared", description="huber: squared up to one standard deviation, absolute beyond"
    )

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """target: mean and spread (standard deviation) of the numbers; classes: the head's single one."""
        numbers = np.array([_number(example) for example in examples])
        # Of equal numbers the mean is rounded, so that their deviation need not be 0.
        if not len(numbers) or numbers.min() == numbers.max():
            raise DataError(
                "the training rows all have the same number" if len(numbers) else "there are no training rows",
                where=examples[0].origin.file if examples else None,
                expected="numbers that differ",
                remedy="check which column holds the number",
            )
        target = {"mean": float(numbers.mean()), "spread": float(numbers.std())}
        return {"target": target, "classes": ["score"], "multi_label": False}

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        for example in held_out:
            _number(example)

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        target = encoder.facts["target"]
        wanted = (_number(example) - target["mean"]) / target["spread"]
        return encoder.sequence(example, wanted=np.asarray(wanted, dtype=np.float32))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {self.error: batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        import torch
        import torch.nn.functional as F

        said = models.policy.class_logits(batch)[:, 0]
        said = said.to(torch.promote_types(said.dtype, torch.float32))
        away = said - batch.fields["wanted"]
        losses = away.square() if self.error == "squared" else away.abs()
        if self.error == "huber":
            losses = F.huber_loss(away, torch.zeros_like(away), reduction="none")
        return [Term(self.error, losses * batch.weights)]


def _number(example: Example) -> float:
    try:
        number = float(example.target) if isinstance(example.target, (str, float)) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"the row '{example.id}' has no number",
            where=str(example.origin),
            expected="a finite number for the objective score",
            remedy="name the number's column with format: scored and columns: {score: ...}",
        )
    return number
