"""Where the tokens of two rows that say the same, each by a tokenizer of its own, end at the same character.

What a model learns in a row may lie in several runs of tokens (the turns of a conversation): they are aligned run by
run, so that what templates put between them may differ. A text that begins with its own first token, which nothing
precedes and nobody tells, is aligned behind what these tokens spell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    runs, others = _runs(first, tokenizer), _runs(second, other)
    if len(runs) != len(others):
        return tuple(np.full(row.supervised.sum(), OUTSIDE, dtype=np.int8) for row in (first, second))  # type: ignore[return-value]
    pairs = [_aligned(*pair, tokenizer, other) for pair in zip(runs, others, strict=True)]
    return tuple(np.array([mark for one in side for mark in one], dtype=np.int8) for side in zip(*pairs, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class _Run:
    """Ids of supervised tokens, behind `before` of the same text that are not."""

    ids: list[int]
    before: int


def _runs(row: Row, tokenizer: PreTrainedTokenizerBase) -> list[_Run]:
    at = np.flatnonzero(row.supervised)
    if len(at) == len(row.ids) - 1 and at[0] == 1 and int(row.ids[0]) not in _special(tokenizer):
        return [_Run(row.ids.tolist(), 1)]  # a text, and no token of the tokenizer's own before it
    return [_Run(row.ids[part].tolist(), 0) for part in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)]


def _aligned(
    first: _Run, second: _Run, tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    (text, ours), (same, theirs) = spelled_ends(first.ids, tokenizer), spelled_ends(second.ids, other)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, same, strict=False)))
    runs = (first, second)
    ends = [[None if end is None or end > common else end for end in some] for some in (ours, theirs)]
    # The first span begins where both have read what one of them does not tell.
    told = max(_told_from(some, run.before, common) for some, run in zip(ends, runs, strict=True))
    begin = min((end for end in {0, *ends[0]} & {0, *ends[1]} if end is not None and end >= told), default=None)
    if begin is None:
        return tuple([OUTSIDE] * (len(run.ids) - run.before) for run in runs)  # type: ignore[return-value]
    cuts = [max(run.before, some.index(begin) + 1 if begin else 0) for some, run in zip(ends, runs, strict=True)]
    marks = spans(ends[0][cuts[0] :], ends[1][cuts[1] :])
    return tuple([OUTSIDE] * (cut - run.before) + some for cut, run, some in zip(cuts, runs, marks, strict=True))  # type: ignore[return-value]


def _told_from(ends: Sequence[int | None], before: int, common: int) -> int:
    """The first character that may be told: behind `before` tokens; beyond `common` where no token ends there."""
    return next((end for end in ends[before - 1 :] if end is not None), common + 1) if before else 0


def spelled_ends(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[int | None]]:
    """What the ids spell, and of each the character after it; None where it ends within a character.

    Each is decoded behind the one before it: what a token spells may depend on what precedes it (a leading space).
    """
    special = _special(tokenizer)
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


def _special(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
