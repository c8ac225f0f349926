"""A prompt for an encoder and its answer for a decoder, as one row: the answer is the branch of what is read.

    [ prompt ... end | start answer ... end ]

The prompt is what the user says, after a system turn and a line break where there is one; no chat template is used. A
prompt that is too long loses its end, as transformers cuts it; an answer is never cut.
Errors: DataError for a conversation of several exchanges, or with tools.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..core.contracts import Row
from ..core.errors import DataError
from ..core.example import Example
from .encode_log import Truncated
from .parts import prompt_turns, text_of, turns_of
from .turns import SYSTEM

if TYPE_CHECKING:
    from .encode import Encoding

__all__ = ["answered_rows", "prompt_ids"]

Letters = Callable[[str], list[int]]
Frame = tuple[list[int], list[int]]


def answered_rows(example: Example, encoding: Encoding, letters: Letters, frame: Frame) -> list[Row]:
    """The row of an example that has "messages", or none, with the reason in the encoding's log.

    letters: encodes plain text; frame: the special tokens before and after one.
    """
    learned = [turn for turn in turns_of(example) if turn.trained]
    if not learned:
        encoding.log.untrained[example.id] = "no turn of it is to be learned"
        return []
    prompt, full = prompt_ids(example, encoding, letters, frame)
    begin, end = frame
    answer = [*begin, *letters(learned[-1].content), *end]
    if len(answer) >= encoding.max_length:
        if encoding.may_shorten(example, example.id, len(answer) + 1):
            encoding.log.dropped[example.id] = f"its answer does not fit into max_length, {encoding.max_length} tokens"
        return []
    if full == len(begin) + len(end) or not answer:
        encoding.log.dropped[example.id] = "there is no prompt in it" if answer else "there is no answer in it"
        return []
    if len(prompt) < full:
        if not encoding.may_shorten(example, example.id, full):
            return []
        encoding.log.truncated[example.id] = Truncated(full, len(prompt), "the end of the prompt")
    # What stands for the start is never looked at: the model knows its own.
    ids = np.array([*prompt, encoding.tokenizer.pad_token_id or 0, *answer], dtype=np.int64)
    learns = np.arange(len(ids)) > len(prompt)
    return [
        Row(
            example.id,
            ids,
            learns,
            example.weight,
            example.groups,
            repeat=example.repeat,
            branches=(1 + len(answer),),
        )
    ]


def prompt_ids(example: Example, encoding: Encoding, letters: Letters, frame: Frame) -> tuple[list[int], int]:
    """The tokens that the encoder reads, within the length limit, and how many there were before."""
    begin, end = frame
    said = letters(_said(example))
    room = max(encoding.max_length - len(begin) - len(end), 0)
    return [*begin, *said[:room], *end], len(begin) + len(said) + len(end)


def _said(example: Example) -> str:
    """What is said before the answer; a row that is no conversation is read whole."""
    turns = prompt_turns(example)
    if not turns and "messages" not in example.parts:
        return text_of(example)
    asked = [turn.role for turn in turns if turn.role not in SYSTEM]
    if asked != ["user"] or example.parts.get("tools"):
        found = "tools" if asked == ["user"] else f"{len(asked)} turns ({', '.join(asked[:4])}) before its answer"
        raise DataError(
            f"row '{example.id}' has {found}, and an encoder-decoder reads one prompt",
            where=str(example.origin),
            expected="a user's turn and its answer, after a system turn or none",
            remedy="give each exchange a row of its own, or train a language model that has a chat template",
        )
    return "\n".join(turn.content for turn in turns)
