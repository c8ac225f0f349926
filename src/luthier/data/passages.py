"""A question and its passage as rows: the question, and behind it a window of the passage; windows overlap.

    [CLS] question [SEP] part of the passage [SEP]        special tokens and segments are those of the tokenizer's pairs

Windows are those that transformers' tokenizers make with `stride` and `return_overflowing_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core.contracts import Encoder, Ints, Row
from ..core.errors import DataError
from ..core.example import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Passage", "answer_places", "nearest_place", "overlapping", "passages"]


class Passage(NamedTuple):
    """A window as a row, nothing of it supervised. characters: [L, 2] from and to which character of the passage each
    token spans; -1 for what is no part of it.
    """

    row: Row
    characters: Ints


def passages(example: Example, encoder: Encoder, stride: int) -> list[Passage]:
    """The windows "id#1", "id#2" of an example's passage, of which neighbors share `stride` tokens, or half of a window
    where that is fewer; none, with the reason in the log, where the question leaves less than half of max_length.
    """
    frame = _Frame.of(encoder.tokenizer)
    question, _ = _pieces(encoder.tokenizer, _text(example, "question"))
    ids, characters = _pieces(encoder.tokenizer, _text(example, "context"))
    room = encoder.max_length - frame.size - len(question)
    if not len(ids):
        encoder.log.dropped[example.id] = "there is no text in its context"
        return []
    if room < max(1, (encoder.max_length - frame.size) // 2):
        encoder.log.dropped[example.id] = f"its question takes more than half of max_length, {encoder.max_length}"
        return []
    windows = overlapping(len(ids), room, min(stride, room // 2))
    found = []
    for number, (low, high) in enumerate(windows, 1):
        name = example.id if len(windows) == 1 else f"{example.id}#{number}"
        tokens, types = frame.around(question, ids[low:high])
        places = np.full((len(tokens), 2), -1, dtype=np.int64)
        first = len(tokens) - len(frame.after) - (high - low)
        places[first : first + high - low] = characters[low:high]
        no = np.zeros(len(tokens), dtype=np.bool_)
        row = Row(name, tokens, no, example.weight, example.groups, repeat=example.repeat, types=types)
        found.append(Passage(row, places))
    return found


def overlapping(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """The ranges of `length` tokens in windows of `room`, each beginning `stride` tokens before the last one's end."""
    starts = range(0, max(1, length - stride), room - stride)
    return [(start, min(start + room, length)) for start in starts]


def answer_places(example: Example) -> list[tuple[int, int]]:
    """The characters of the context that each reference answer spans, in their order; none where there is no answer.

    Where a step changed the context, the nearest place that says the same. Errors: DataError where there is none.
    """
    context, answers = _text(example, "context"), example.target if isinstance(example.target, tuple) else ()
    starts = [int(start) for start in example.groups.get("answer_starts", "").split()]
    found = []
    for number, answer in enumerate(answers):
        start = nearest_place(context, answer, starts[number] if number < len(starts) else 0)
        if start is None:
            changed = ", ".join(example.origin.steps)
            raise DataError(
                f"an answer of row '{example.id}' does not stand in its context"
                + (f", after the steps {changed}" if changed else ""),
                where=str(example.origin),
                expected="answers that are parts of the context",
                remedy=f"leave {changed} out for such rows" if changed else "mend the row",
            )
        found.append((start, start + len(answer)))
    return found


def nearest_place(context: str, text: str, start: int) -> int | None:
    """Where in the context the text stands, nearest to `start`; None where it does not."""
    places = (context.rfind(text, 0, max(0, start) + len(text)), context.find(text, max(0, start)))
    return min((at for at in places if at >= 0), key=lambda at: abs(at - start), default=None)


class _Frame(NamedTuple):
    """What a tokenizer puts around and between two texts, and the segment of each; types None: it tells none apart."""

    before: list[int]
    between: list[int]
    after: list[int]
    types: tuple[Sequence[int], int, Sequence[int], int, Sequence[int]] | None

    @property
    def size(self) -> int:
        """How many special tokens there are."""
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> _Frame:
        encoded: Any = tokenizer("a", "b", verbose=False)
        whole: list[int] = encoded["input_ids"]
        first, second = (_pieces(tokenizer, text)[0].tolist() for text in ("a", "b"))
        at = next(i for i in range(len(whole)) if whole[i : i + len(first)] == first)
        behind = at + len(first)
        then = next(i for i in range(behind, len(whole)) if whole[i : i + len(second)] == second)
        end = then + len(second)
        types = encoded.get("token_type_ids")
        kinds = (types[:at], types[at], types[behind:then], types[then], types[end:]) if types and any(types) else None
        return cls(whole[:at], whole[behind:then], whole[end:], kinds)

    def around(self, question: Ints, context: Ints) -> tuple[Ints, Ints | None]:
        """Ids and types of the two with what stands around them."""
        ids = np.array([*self.before, *question, *self.between, *context, *self.after], dtype=np.int64)
        if self.types is None:
            return ids, None
        before, own, between, other, after = self.types
        types = [*before, *[own] * len(question), *between, *[other] * len(context), *after]
        return ids, np.array(types, dtype=np.int64)


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[Ints, Ints]:
    """[n] token ids and [n, 2] the characters that each spans; control tokens that the text spells are letters."""
    encoded: Any = tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    return np.array(encoded["input_ids"], dtype=np.int64), offsets


def _text(example: Example, name: str) -> str:
    found = example.parts.get(name)
    if not isinstance(found, str):
        raise DataError(
            f"row '{example.id}' has no {name} (it has {', '.join(example.parts) or 'nothing'})",
            where=str(example.origin),
            expected="the parts question and context",
            remedy="use an objective for this kind of data, or name the format spans in data.train",
        )
    return found
