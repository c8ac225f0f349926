"""What a reward model says: the number that its head gives an answer to its prompt.

The model is one that the objective reward trained (or any classifier with a single class): the folder of a run, a
folder, or a hub id with revision. It reads prompt and answer by its own tokenizer and chat template. Where an answer
does not fit into its length, the prompt loses its beginning. Source: Ouyang et al. 2022 (arXiv:2203.02155), section
3.5. Errors: ModelError for a model that cannot be loaded or has more classes than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field

from ..core.example import Example, Turn
from ..core.rewards import Answer, Judge, Reward

__all__ = ["Model"]


class Model(Reward):
    """Asks a reward model, which is loaded once a phase."""

    example: ClassVar[dict[str, Any]] = {"source": "runs/reward", "weight": 1.0}
    source: str = Field(min_length=1, description="the reward model: a run, a folder or a hub id")

    def examine(self) -> None:
        from ..models.load import examine

        examine(self.source, "sequence_score")

    @contextmanager
    def open(self) -> Iterator[Judge]:
        from ..data.judge import open_judge

        judge = open_judge(self.source)
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
