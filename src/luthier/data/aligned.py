"""Where the tokens of two rows that say the same, each by a tokenizer of its own, end at the same character.

What a model learns in a row may lie in several runs of tokens (the turns of a conversation): they are aligned run by
run, so that what templates put between them may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..core.contracts import Row
from ..functional.aligned import OUTSIDE, spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["span_marks", "spelled_ends"]

_SPECIAL = "\uffff"
"""Stands for a special token, whatever its name: what ends an answer for one model ends it for the other. No character
of any text."""
_BROKEN = "\ufffd"
"""What a part of a character is decoded to."""

_Marks = NDArray[np.int8]


def span_marks(
    first: Row, tokenizer: PreTrainedTokenizerBase, second: Row, other: PreTrainedTokenizerBase
) -> tuple[_Marks, _Marks]:
    """[n] and [m] marks of the supervised tokens of two rows, as functional.aligned.spans gives them.

    What one row says and the other does not (a row that was cut, or begins elsewhere) lies in no span.
    """
    runs, others = _runs(first), _runs(second)
    if len(runs) != len(others):
        return tuple(np.full(sum(map(len, some)), OUTSIDE, dtype=np.int8) for some in (runs, others))  # type: ignore[return-value]
    pairs = [_aligned(*pair, tokenizer, other) for pair in zip(runs, others, strict=True)]
    return tuple(np.array([mark for one in side for mark in one], dtype=np.int8) for side in zip(*pairs, strict=True))  # type: ignore[return-value]


def _runs(row: Row) -> list[list[int]]:
    """The ids of each run of supervised tokens."""
    at = np.flatnonzero(row.supervised)
    return [row.ids[part].tolist() for part in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)]


def _aligned(
    first: Sequence[int], second: Sequence[int], tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    (text, ends), (same, others) = spelled_ends(first, tokenizer), spelled_ends(second, other)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, same, strict=False)))

    def within(ends: Sequence[int | None]) -> list[int | None]:
        return [None if end is None or end > common else end for end in ends]

    return spans(within(ends), within(others))


def spelled_ends(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[int | None]]:
    """What the ids spell, and of each the character after it; None where it ends within a character.

    Each is decoded behind the one before it: what a token spells may depend on what precedes it (a leading space).
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    text, begin, read = "", 0, 0
    ends: list[int | None] = []
    for at, number in enumerate(ids):
        if number in special:
            text += _SPECIAL
            begin = read = at + 1
        else:
            before, now = (_decoded(tokenizer, ids[begin:end]) for end in (read, at + 1))
            if now.endswith(_BROKEN):
                ends.append(None)
                continue
            text += now[len(before) :]
            begin, read = read, at + 1
        ends.append(len(text))
    return text, ends


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
