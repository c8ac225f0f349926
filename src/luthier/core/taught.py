"""What objectives share that learn from a teacher, a model that was trained before.

The engine opens the teacher, asks it about every row once before the first step, and lets it go; what it said lies in
the phase's folder. Where states of its layers are learned, which would fill the disk, it is asked at every step, and
stays. Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from .contracts import Objective
from .errors import Problem

if TYPE_CHECKING:
    from .recipe import Phase, Recipe

__all__ = ["Taught", "TaughtAlike"]

_Layer = Annotated[int, Field(ge=0)]


class Taught(Objective):
    """Part of the loss is that of the labels themselves, part the distance to what the teacher says."""

    roles: ClassVar[frozenset[str]] = frozenset({"teacher"})

    teacher: str = Field(
        description="the model to learn from: an earlier phase, a run, a folder, embedded:NAME or a hub id",
        examples=["runs/teacher"],
    )
    divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon"] = Field(
        "forward_kl", description="the distance: forward covers all that the teacher says, reverse its surest answers"
    )
    beta: float = Field(0.5, gt=0, lt=1, description="of jensen_shannon: the teacher's share in the mean of the two")
    hard: float = Field(0.5, ge=0, lt=1, description="the share of the loss that is of the labels themselves")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        names = [one.name for one in recipe.phases]
        if phase is not None and self.teacher in names and names.index(self.teacher) >= names.index(phase.name):
            yield Problem(
                f"the teacher of phase '{phase.name}' is phase '{self.teacher}', which does not come before it",
                expected="an earlier phase, or a model from outside",
                remedy=f"put the phase '{self.teacher}' before it, or name a run or a folder",
            )

    def sources(self) -> Mapping[str, str]:
        return {"teacher": self.teacher}


class TaughtAlike(Taught):
    """Both see the same tokens: hard x the labels' loss + (1 - hard) x temperature^2 x the distance; with `layers`, +
    state_weight x the distance of their states, in the mean over these layers.
    """

    temperature: float = Field(
        2.0, gt=0, description="divides both models' logits; more shows more of what the teacher holds for unlikely"
    )
    layers: tuple[tuple[_Layer, _Layer], ...] = Field(
        (),
        description="pairs of a layer of the student and the layer of the teacher whose states it learns, each from 0",
        examples=[((0, 2), (1, 5))],
    )
    state_distance: Literal["squared", "cosine"] = Field("squared", description="between the states of two layers")
    state_weight: float = Field(1.0, gt=0, description="how much the states of layers weigh in the loss")

    @property
    def asked_throughout(self) -> bool:
        return bool(self.layers)
