"""A prompt and the answers to it as one row: what the answers share is there once, and each is a branch.

Every answer is rendered behind the prompt as a conversation of its own, masked as in supervised training, and ends in
its stop token. What is too long loses the oldest of the prompt, the same for all answers; an answer's end is never cut.
Errors: DataError for a row without a prompt or an answer, or with one that is text and not turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.contracts import Bools, Ints, Row
from ..core.errors import DataError
from ..core.example import Example, Turn
from .parts import tools_of

if TYPE_CHECKING:
    from .encode import Encoding

__all__ = ["answer_rows", "turns_in_part"]

Turns = tuple[Turn, ...]
Sequences = list[tuple[Ints, Bools]]


def turns_in_part(example: Example, name: str) -> Turns:
    """The turns of a part. Errors: DataError where there is none of this name, or it is text."""
    found = example.parts.get(name)
    if not isinstance(found, tuple) or not found:
        raise DataError(
            f"row '{example.id}' has no turns in '{name}' (it has {', '.join(example.parts) or 'nothing'})",
            where=str(example.origin),
            expected="a prompt, and answers to it",
            remedy="name the format in data.train, such as preferences or feedback, and its columns",
        )
    return found


def answer_rows(example: Example, names: Sequence[str], encoding: Encoding) -> list[Row]:
    """The row of these answers, or none, with the reason in the encoding's log."""
    prompt = tuple(replace(turn, train=False) for turn in turns_in_part(example, "prompt"))
    answers = [turns_in_part(example, name) for name in names]
    tools, template = tools_of(example), encoding.template
    if not all(any(turn.trained for turn in answer) for answer in answers):
        encoding.log.untrained[example.id] = "an answer of it has no turn that is to be learned"
        return []

    def encode(kept: Turns) -> tuple[int, Sequences]:
        found = []
        for answer in answers:
            last = max(index for index, turn in enumerate(answer) if turn.trained)
            ids, marks = template.encode(template.render((*kept, *answer[: last + 1]), tools))
            end = len(marks) - int(marks[::-1].argmax()) if marks.any() else len(marks)
            found.append((ids[:end], marks[:end]))
        return max(len(ids) for ids, _ in found), found

    try:
        longest, found = encode(prompt)
    except DataError as error:
        encoding.log.dropped[example.id] = error.problems[0].found
        return []
    if longest > encoding.max_length:
        shortened = encoding.shortened(example, example.id, prompt, longest, encode)
        if shortened is None:
            return []
        found = shortened
    if not all(marks.any() for _, marks in found):
        encoding.log.untrained[example.id] = "no token of an answer of it is to be learned"
        return []
    return [_row(example, found)]


def _row(example: Example, sequences: Sequences) -> Row:
    """The sequences joined: what all begin with, up to the last token before any is learned, and the rest of each."""
    shared = min(int(marks.argmax()) - 1 for _, marks in sequences)
    first = sequences[0][0][:shared]
    for ids, _ in sequences[1:]:
        alike = ids[: len(first)] == first[: len(ids)]
        first = first[: len(alike) if alike.all() else int(alike.argmin())]
    shared = len(first)
    rest = [(ids[shared:], marks[shared:]) for ids, marks in sequences]
    return Row(
        example.id,
        np.concatenate([first, *(ids for ids, _ in rest)]),
        np.concatenate([np.zeros(shared, dtype=np.bool_), *(marks for _, marks in rest)]),
        example.weight,
        example.groups,
        repeat=example.repeat,
        branches=tuple(len(ids) for ids, _ in rest),
    )
