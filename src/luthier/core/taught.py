"""What objectives share that learn from a teacher, a model that was trained before.

The engine opens the teacher, asks it about every row once before the first step, and lets it go; what it said lies in
the phase's folder. Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from .contracts import Objective

__all__ = ["Taught"]


class Taught(Objective):
    """The loss is hard x that of the labels + (1 - hard) x temperature^2 x the distance to the teacher."""

    roles: ClassVar[frozenset[str]] = frozenset({"teacher"})

    teacher: str = Field(
        description="the model to learn from: a run, a folder, embedded:NAME or a hub id, with the student's tokenizer",
        examples=["runs/teacher"],
    )
    divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon"] = Field(
        "forward_kl", description="the distance: forward covers all that the teacher says, reverse its surest answers"
    )
    temperature: float = Field(
        2.0, gt=0, description="divides both models' logits; more shows more of what the teacher holds for unlikely"
    )
    hard: float = Field(0.5, ge=0, lt=1, description="the share of the loss that is of the labels themselves")

    def sources(self) -> Mapping[str, str]:
        return {"teacher": self.teacher}
