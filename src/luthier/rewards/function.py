"""What a function of yours returns: plain Python by its import path, called in a process of its own.

    def reward(prompt: str, answer: str, target: str | None) -> float

prompt is what the last turn before the answer says, target the row's (first) reference answer. The function may take
`seconds` for an answer; one that takes longer, raises, ends its process, or returns no finite number gives the reward
`failed`, and the run says how often and why. It is found from the folder in which the command runs, and is a program
with all the rights of that command: name none that you have not read. Where its file lies in that folder and changes,
the phase is trained anew; what the file imports is not looked at. Source: verifiable rewards, Lambert et al. 2024
(arXiv:2411.15124), section 6. Errors: RecipeError for a path that leads to no function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ..core.called import Called
from ..core.rewards import NOWHERE, Answer, Failed, Judge, Reward

__all__ = ["Function"]


class Function(Reward):
    """Calls a function for each answer, one after the other."""

    example: ClassVar[dict[str, Any]] = {"path": "checks.answers:is_right", "seconds": 2.0}
    path: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="package.module:function")
    seconds: float = Field(5.0, gt=0, description="time limit for one answer")
    failed: float = Field(0.0, description="the reward of an answer for which the function fails")

    def outside(self) -> Sequence[str]:
        place = Path(*self.path.partition(":")[0].split("."))
        return [str(place.with_name(f"{place.name}.py")), str(place / "__init__.py")]

    def examine(self) -> None:
        with Called(self.path, self.seconds):
            pass

    @contextmanager
    def open(self, places: Mapping[str, str] = NOWHERE, device: str = "cpu") -> Iterator[Judge]:
        with Called(self.path, self.seconds) as called:

            def judge(answers: Sequence[Answer]) -> list[float | Failed]:
                found = [
                    called(answer.prompt, answer.text, answer.targets[0] if answer.targets else None)
                    for answer in answers
                ]
                return [self._failure(value) if isinstance(value, str) else value for value in found]

            yield judge

    def _failure(self, said: str) -> Failed:
        """An exception's kind is why; what it says may quote the answer."""
        why, _, details = said.partition(": ")
        return Failed(self.failed, why, details)
