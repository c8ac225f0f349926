"""What objectives share that learn from a policy's own answers.

The engine has the policy answer prompts (engine/rollout.py), asks the rewards, and hands the answers back as rows that
branch, one branch an answer. Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from .component import Slot
from .contracts import Encoder, Objective, Row, Task
from .errors import DataError, Problem
from .example import Example

if TYPE_CHECKING:
    from torch import Tensor

    from .recipe import Phase, Recipe
    from .rewards import Reward as RewardSlot
else:
    RewardSlot = Slot("rewards")

__all__ = ["OnPolicy", "judges_of"]


class OnPolicy(Objective):
    """An objective over answers that the policy gives while it trains.

    A rollout asks the prompts of `minibatches` steps, each for `answers` answers, drawn from the policy itself
    (temperature 1). Its steps are then taken `passes` times over, and the next rollout is asked of what came of it.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"messages", "prompt"})
    task: ClassVar[Task] = "causal_lm"
    roles: ClassVar[frozenset[str]] = frozenset({"reference"})

    rewards: tuple[RewardSlot, ...] = Field(min_length=1, description="what answers are worth: the sum of these")
    answers: int = Field(8, ge=1, description="answers to each prompt")
    max_new_tokens: int = Field(
        64, gt=0, description="longest answer, in tokens; a longer one is cut and learned as cut"
    )
    kl: float = Field(0.0, ge=0, description="how strongly the policy is held at the model that the phase starts from")
    minibatches: int = Field(1, ge=1, description="steps that the prompts of a rollout make")
    passes: int = Field(1, ge=1, description="how often the steps of a rollout are taken")
    sampler_cap: float | None = Field(
        2.0,
        ge=1,
        description="where training finds what was drawn likelier than the sampler did, it counts as much more, and at "
        "most so much; less likely, less; null: all counts once",
    )

    @property
    def refers(self) -> bool:
        """Whether `precompute` asks the role "reference"."""
        return self.kl > 0

    @property
    def reuses(self) -> bool:
        """Whether some step of a rollout finds a policy that is not the one that answered."""
        return self.minibatches * self.passes > 1

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        place = f"phases.{recipe.phases.index(phase)}.objective.rewards" if phase in recipe.phases else "rewards"
        for number, reward in enumerate(self.rewards):
            for problem in reward.problems(recipe, phase):
                yield problem.at(f"{place}.{number}")

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        """The prompt alone, as a row in which nothing is supervised."""
        ids = np.asarray(encoder.prompt(example, reserve=self.max_new_tokens), dtype=np.int64)
        if len(ids) + self.max_new_tokens > encoder.max_length:
            raise DataError(
                f"the prompt of row '{example.id}' has {len(ids)} tokens and leaves no room for "
                f"{self.max_new_tokens} of an answer",
                where=str(example.origin),
                expected=f"at most {encoder.max_length} tokens together",
                remedy="lower max_new_tokens, raise max_length, or leave the row out",
            )
        no = np.zeros(len(ids), dtype=np.bool_)
        return [Row(example.id, ids, no, example.weight, example.groups, repeat=example.repeat)]

    def judges(self) -> tuple[str, ...]:
        """The models that its rewards ask: earlier phases, runs, folders or hub ids."""
        return tuple(source for reward in self.rewards for source in reward.judges())

    def advantages(self, rollout: Mapping[str, Tensor], memory: dict[str, float]) -> Mapping[str, Tensor]:
        """Further fields [P, ...] of a whole rollout of P prompts with G answers each of at most L tokens.

        rollout: rewards [P, G] (float64), tokens [P, G], cut [P, G] (1 where an answer did not end), sampled [P, G, L]
        log-probabilities as they were drawn, and what `precompute` gave, 0 beyond an answer's end.
        memory: what this call is to know in the next rollout's; empty at first, kept in checkpoints.
        """
        raise NotImplementedError(type(self).__name__)

    def figures(self, rollout: Mapping[str, Tensor], memory: Mapping[str, float]) -> Mapping[str, float]:
        """What is told of a rollout, now with its advantages, beside its rewards; memory: as it was before them."""
        return {}


def judges_of(objective: Objective) -> tuple[str, ...]:
    """The models that an objective's rewards ask; none where it has no rewards."""
    return objective.judges() if isinstance(objective, OnPolicy) else ()
