"""Texts longer than a model takes, cut into windows: runs that follow each other, or windows of words that overlap.

A window of words has context on both sides of what is read in it, a quarter of its room before and after at most, so
that a name is not judged at the edge of what the model sees. Each word is read in one window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from ..core.contracts import Bools, Ints, Row
from ..core.errors import DataError, Problem
from ..core.example import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..core.recipe import Phase

__all__ = ["Window", "first_pieces", "overlong_problems", "run_rows", "runs", "shared", "word_rows"]

Frame = tuple[Sequence[int], Sequence[int]]
_W = TypeVar("_W")
_CONTEXT = 4  # of a window's room, the part that is context on a side


class Window(NamedTuple):
    """Words begin to end lie in it, and words first to last are read in it (Python's half-open ranges)."""

    begin: int
    first: int
    last: int
    end: int


def overlong_problems(phase: Phase | None) -> Iterator[Problem]:
    """An `overlong` that nothing reads, since no row is too long where it becomes windows: an error."""
    if phase is not None and phase.overlong != "trim_prompt":
        yield Problem(
            f"overlong is {phase.overlong}, and nothing reads it: longer texts become windows of max_length",
            remedy="remove overlong",
        )


def run_rows(example: Example, body: Sequence[int], frame: Frame, max_length: int) -> list[Row]:
    """The tokens of a text in runs, each between the special tokens of `frame`; each token its own target, none of
    them supervised. Errors: DataError where max_length leaves no room between special tokens.
    """
    ids = np.array(body, dtype=np.int64)
    return [
        _row(example, name, frame, ids[low:high], np.zeros(high - low, dtype=np.bool_), ids[low:high])
        for name, (low, high) in _numbered(example.id, runs(len(ids), _room(frame, max_length)))
    ]


def word_rows(
    example: Example,
    words: Sequence[str],
    targets: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    frame: Frame,
    max_length: int,
) -> list[Row]:
    """Windows of words between the special tokens of `frame`: the first token of each word is supervised in one of
    them, with the word's target. Errors: as run_rows.
    """
    room = _room(frame, max_length)
    pieces = first_pieces(tokenizer, words, room)
    rows = []
    for name, window in _numbered(example.id, shared([len(ids) for ids in pieces], room)):
        inside = pieces[window.begin : window.end]
        ids = np.array([token for piece in inside for token in piece], dtype=np.int64)
        begins = np.cumsum([0, *(len(piece) for piece in inside)])[:-1]
        chosen = begins[window.first - window.begin : window.last - window.begin]
        marks, aims = np.zeros(len(ids), dtype=np.bool_), np.full(len(ids), -1, dtype=np.int64)
        marks[chosen], aims[chosen] = True, targets[window.first : window.last]
        rows.append(_row(example, name, frame, ids, marks, aims))
    return rows


def _row(example: Example, name: str, frame: Frame, body: Ints, marks: Bools, targets: Ints) -> Row:
    begin, end = frame
    around = (len(begin), len(end))
    ids, aims = np.array([*begin, *body, *end], dtype=np.int64), np.pad(targets, around, constant_values=-1)
    return Row(name, ids, np.pad(marks, around), example.weight, example.groups, repeat=example.repeat, targets=aims)


def _room(frame: Frame, max_length: int) -> int:
    special = sum(map(len, frame))
    if max_length <= special:
        raise DataError(
            f"max_length is {max_length}, and {special} special tokens stand around a text",
            expected="room for at least one token between them",
            remedy="raise max_length",
        )
    return max_length - special


def _numbered(name: str, windows: Sequence[_W]) -> Iterator[tuple[str, _W]]:
    """Windows with the names of their rows: that of the example where there is but one."""
    for number, window in enumerate(windows, 1):
        yield (name if len(windows) == 1 else f"{name}#{number}"), window


def runs(length: int, room: int) -> list[tuple[int, int]]:
    """The ranges of `length` tokens in runs of at most `room`, as even as can be: no run is a leftover."""
    count = -(-length // room)
    return list(pairwise(round(length * part / count) for part in range(count + 1))) if count else []


def shared(lengths: Sequence[int], room: int) -> list[Window]:
    """Windows over words of so many tokens (each at most `room`): at most `room` tokens in each."""
    ends = np.cumsum([0, *lengths])
    words, context = len(lengths), room // _CONTEXT

    def reached(tokens: int) -> int:
        """How many words end within the first so many tokens."""
        return int(np.searchsorted(ends, tokens, side="right")) - 1

    found: list[Window] = []
    first = 0
    while first < words:
        begin = int(np.searchsorted(ends, ends[first] - context, side="left"))
        end = reached(ends[begin] + room)
        if end <= first:  # the word is too long to have context before it
            begin, end = first, reached(ends[first] + room)
        last = end if end == words else max(first + 1, reached(ends[end] - context))
        found.append(Window(begin, first, last, end))
        first = last
    return found


def first_pieces(tokenizer: PreTrainedTokenizerBase, words: Sequence[str], room: int) -> list[list[int]]:
    """The token ids of each word as it stands among the others, one space apart; at least one id a word, and at most
    `room`. A word that the tokenizer makes nothing of (invisible characters) is its unknown token.
    """
    begins = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    encoded = tokenizer(
        " ".join(words),
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    pieces: list[list[int]] = [[] for _ in words]
    for token, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        # A token may begin with the space before its word, and so belongs to the word that its last character is of.
        owner = int(np.searchsorted(begins, max(begin, end - 1), side="right")) - 1
        if len(pieces[owner]) < room:
            pieces[owner].append(int(token))
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    return [found or [int(unknown)] for found in pieces]
