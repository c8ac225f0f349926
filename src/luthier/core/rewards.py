"""Rewards: what says how much an answer is worth, and what it is told of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import Field

from .component import Component
from .errors import DataError
from .example import Example

__all__ = ["NOWHERE", "Answer", "Failed", "Judge", "Reward"]

NOWHERE: Mapping[str, str] = MappingProxyType({})
"""No judge is an earlier phase."""


@dataclass(frozen=True)
class Answer:
    """What is to be rewarded: the row that was asked, what its last turn before the answer says, what was answered,
    and the row's reference answers.
    """

    example: Example
    prompt: str
    text: str
    targets: tuple[str, ...]

    def wanted(self) -> tuple[str, ...]:
        """The reference answers. Errors: DataError for a row without any."""
        if not self.targets:
            raise DataError(
                f"row '{self.example.id}' has no reference answer to hold answers against",
                where=str(self.example.origin),
                expected="a row with an answer, such as a conversation that ends in one",
                remedy="give rows with answers, or name a reward that needs none: contains with text, regex, function",
            )
        return self.targets


@dataclass(frozen=True)
class Failed:
    """A reward that could not be found, with what counts in its place, and why; details may quote the answer."""

    value: float
    why: str
    details: str = ""


Judge = Callable[[Sequence[Answer]], Sequence[float | Failed]]
"""The rewards of answers, in their order."""


class Reward(Component):
    """Says what an answer is worth."""

    weight: float = Field(1.0, description="what it is multiplied with before rewards are added up")

    def of(self, answer: Answer) -> float:
        """The reward of one answer, before its weight."""
        raise NotImplementedError(type(self).__name__)

    def judges(self) -> tuple[str, ...]:
        """The models that it asks: earlier phases, runs, folders or hub ids."""
        return ()

    def examine(self) -> None:
        """Errors: LuthierError, before anything is trained, where rewards cannot be found at all."""

    def outside(self) -> Sequence[str]:
        """Files that it goes by (or may: those that are there count), besides models: where one changes, what was
        learned from it is learned anew.
        """
        return ()

    @contextmanager
    def open(self, places: Mapping[str, str] = NOWHERE, device: str = "cpu") -> Iterator[Judge]:
        """What judges answers while a phase lasts. places: the folders of the `judges` that are earlier phases. device:
        where models compute.
        """
        yield lambda answers: [self.of(answer) for answer in answers]
