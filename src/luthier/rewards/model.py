"""What a reward model says: the number that its head gives an answer to its prompt.

The model is one that the objective reward trained (or any classifier with a single class): an earlier phase of the
recipe, the folder of a run, a folder, or a hub id with revision. It reads prompt and answer by its own tokenizer and
chat template. Where an answer does not fit into its length, the prompt loses its beginning. Source: Ouyang et al. 2022
(arXiv:2203.02155), section 3.5. Errors: RecipeError for a phase that trains no reward model or comes later; ModelError
for a model that cannot be loaded or has more classes than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.errors import Problem
from ..core.example import Example, Turn
from ..core.rewards import NOWHERE, Answer, Judge, Reward

if TYPE_CHECKING:
    from ..core.recipe import Phase, Recipe

__all__ = ["Model"]


class Model(Reward):
    """Asks a reward model, which is loaded once a phase."""

    example: ClassVar[dict[str, Any]] = {"source": "runs/reward", "weight": 1.0}
    source: str = Field(min_length=1, description="the reward model: an earlier phase, a run, a folder or a hub id")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        names = [one.name for one in recipe.phases]
        if phase is None or self.source not in names:
            return
        judge = recipe.phases[names.index(self.source)]
        if names.index(self.source) >= names.index(phase.name):
            yield Problem(
                f"the reward model of phase '{phase.name}' is phase '{self.source}', which does not come before it",
                expected="an earlier phase, or a model from outside",
            )
        elif judge.objective.task != "sequence_score":
            yield Problem(
                f"phase '{self.source}' trains no reward model",
                expected="a phase with the objective reward, which has one number for an answer",
                remedy=f"add a phase with objective: reward before '{phase.name}', and name that",
            )

    def judges(self) -> tuple[str, ...]:
        return (self.source,)

    def examine(self) -> None:
        from ..models.load import examine

        examine(self.source, "sequence_score")

    @contextmanager
    def open(self, places: Mapping[str, str] = NOWHERE, device: str = "cpu") -> Iterator[Judge]:
        from ..data.judge import open_judge

        judge = open_judge(places.get(self.source, self.source), device)
        yield lambda answers: judge(_asked(answers)).tolist()


def _asked(answers: Sequence[Answer]) -> list[Example]:
    """The answers as rows that a judge reads."""
    from ..data.parts import prompt_turns

    return [
        Example(
            f"{number}",
            {"prompt": prompt_turns(answer.example), "completion": (Turn("assistant", answer.text),)},
            answer.example.origin,
        )
        for number, answer in enumerate(answers)
    ]
