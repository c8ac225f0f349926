"""What an objective encodes examples with. Nothing here imports torch at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from .batch import Row
from .example import Example

__all__ = ["Encoder"]


class Encoder(Protocol):
    """What an objective encodes with: tokenizer, chat template, length limit, and what was surveyed from the data.

    The concrete one is `data.encode.Encoding`; it also writes truncated and dropped rows down.
    """

    facts: Mapping[str, Any]
    tokenizer: Any
    max_length: int
    beside: Mapping[str, Encoder]
    """What the models of an objective's `sources` encode with, by role, where their tokenizers may be others."""
    log: Any

    def conversation(self, example: Example) -> list[Row]:
        """The example's "messages" rendered by the chat template; trained turns supervised, each to its stop token."""
        ...

    def document(self, example: Example) -> list[Row]:
        """The example's "text", all of it supervised, cut into windows of the length limit; ends in the end token."""
        ...

    def sequence(self, example: Example, **fields: NDArray[Any]) -> list[Row]:
        """The example's text with the tokenizer's special tokens, nothing supervised (encoders, classification)."""
        ...

    def windows(self, example: Example) -> list[Row]:
        """The example's texts in windows of the length limit, each between the tokenizer's special tokens; nothing
        supervised, and what is not special has itself as its target (-1 elsewhere).
        """
        ...

    def answers(self, example: Example, names: Sequence[str]) -> list[Row]:
        """One row that begins with the turns of "prompt" and has a branch for each of these parts, the turns that
        answer it: supervised where they are learned, each to its stop token.
        """
        ...

    def answered(self, example: Example) -> list[Row]:
        """One row that begins with the prompt and has one branch, the answer to it, all supervised but its first token:
        a model that reads the one and writes the other puts its own in that place.
        """
        ...

    def prompt(self, example: Example, *, reserve: int = 0) -> list[int]:
        """Token ids to generate from, shortened where fewer than `reserve` tokens of the length limit would be left."""
        ...

    def words(self, example: Example, targets: Sequence[int]) -> list[Row]:
        """The words of a tagged example in windows of the length limit that share context: the first token of each
        word is supervised once, in the words' order, with the word's target.
        """
        ...
