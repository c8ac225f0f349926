"""What objectives share that learn from a teacher, a model that was trained before.

The engine opens the teacher, asks it about every row once before the first step, and lets it go; what it said lies in
the phase's folder. Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from .contracts import Objective
from .errors import Problem

if TYPE_CHECKING:
    from .recipe import Phase, Recipe

__all__ = ["Taught"]


class Taught(Objective):
    """The loss is hard x that of the labels + (1 - hard) x temperature^2 x the distance to the teacher."""

    roles: ClassVar[frozenset[str]] = frozenset({"teacher"})

    teacher: str = Field(
        description="the model to learn from: an earlier phase, a run, a folder, embedded:NAME or a hub id",
        examples=["runs/teacher"],
    )
    divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon"] = Field(
        "forward_kl", description="the distance: forward covers all that the teacher says, reverse its surest answers"
    )
    temperature: float = Field(
        2.0, gt=0, description="divides both models' logits; more shows more of what the teacher holds for unlikely"
    )
    hard: float = Field(0.5, ge=0, lt=1, description="the share of the loss that is of the labels themselves")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        names = [one.name for one in recipe.phases]
        if phase is not None and self.teacher in names and names.index(self.teacher) >= names.index(phase.name):
            yield Problem(
                f"the teacher of phase '{phase.name}' is phase '{self.teacher}', which does not come before it",
                expected="an earlier phase, or a model from outside",
            )

    def sources(self) -> Mapping[str, str]:
        return {"teacher": self.teacher}
