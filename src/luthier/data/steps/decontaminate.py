"""Finds training rows that copy an evaluation row, word for word or edited; tells them from rows on a shared passage.

A copy holds, in order, at least `overlap` of the words of an evaluation row's question and answer, and at least half as
much of the answer without words that are in many answers ("the", "she"). Of a prompt of 40 words or more only its first
and its last sentence are compared so, since that is where a question stands; the rest is its passage. Thus a training
row that asks something else about a passage of the test set is a "shared passage", which many splits have on purpose
and which is noted only; so is a row with the question of an evaluation row and another answer. Rows on two different
passages are no copies. Rows without an answer are compared part by part. A short row that shares no passage may miss
fewer words. Words are compared in their order, so copies of which a fifth of the words were replaced, dropped or
inserted are found. With an `encoder`, rows that mean the same in other words are found too.

Against: the other splits, and files. The share of words that is shared is that of the evaluation row, as Llama 2 and 3
count it. Errors: DataError where a file cannot be read, and with `action: stop` where more than `limit` of the rows are
copies. Source: Brown et al. 2020, appendix C; Touvron et al., Llama 2, 2023, section A.6; Llama 3, 2024, 5.1.4.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.errors import DataError, Problem
from ...core.example import Example
from ...core.recipe import Source
from ...functional.kmeans import unit
from ...functional.overlap import Rare, Sought, Words
from ..asked import Asked, asked_of
from ..read import read

__all__ = ["Decontaminate"]

_SURE = 16
"""Words from which on a row without a passage may miss as many as `overlap` says."""
_QUESTION = 0.8
"""The share of a question that makes it the same one, whatever the answer is."""
_OFTEN, _OFTEN_LEAST = 0.05, 3
"""A word that is in the answers of more rows than both of these ("the", "she") does not tell an answer."""
_SHOWN = 5
_TOGETHER = 1024
"""Rows whose cosines with all evaluation rows are held at once."""
_COPY, _ALIKE = "copy of an evaluation row", "alike in meaning to an evaluation row"
_ASKED, _PASSAGE = "question of an evaluation row with another answer", "shared passage"
_KINDS = (_COPY, _ALIKE, _ASKED, _PASSAGE)


class Decontaminate(Step):
    """Notes, drops or refuses training rows that are in an evaluation set; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"action": "drop", "overlap": 0.7}

    against: tuple[str, ...] = Field((), description="further evaluation sets: files or folders")
    overlap: float = Field(
        0.6, gt=0, le=1, description="smallest share of an evaluation row's words that makes a row its copy"
    )
    action: Literal["note", "drop", "stop"] = Field("note", description="what happens to copies; stop ends the run")
    limit: float = Field(0.0, ge=0, lt=1, description="with stop: the share of rows that may be copies")
    encoder: str | None = Field(None, description="a model that finds rows alike in meaning too: embedded:minilm")
    similarity: float = Field(0.9, gt=0, le=1, description="with an encoder: smallest cosine of question and answer")

    def outside(self) -> Sequence[str]:
        return self.against

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        sets: dict[str, Sequence[Example]] = dict(context.others)
        for path in self.against:
            sets[path] = read([Source(path=path)]).examples
        found = self._found(rows, [(name, example) for name, given in sets.items() for example in given])
        context.facts.update(_facts(sets, rows, found))
        copies = {number for number, one in found.items() if one.kind in (_COPY, _ALIKE)}
        if self.action == "stop" and len(copies) > self.limit * len(rows):
            raise self._refused([(rows[number], found[number]) for number in sorted(copies)], len(rows))
        for number, example in enumerate(rows):
            if number in copies and self.action == "drop":
                context.ledger.drop(example, found[number].reason, of=found[number].of)
                continue
            if number in found:
                context.ledger.note(example, found[number].reason, of=found[number].of)
            yield example

    def _found(self, rows: Sequence[Example], others: Sequence[tuple[str, Example]]) -> dict[int, _Found]:
        """What each row that shares something shares, by its number; in order."""
        held_out = _Evaluation([asked_of(example) for _, example in others], self.overlap)
        nearest: dict[int, _Nearest] = {}
        for number, example in enumerate(rows):
            if (one := held_out.nearest(asked_of(example))) is not None:
                nearest[number] = one
        if self.encoder is not None:
            rest = [number for number in range(len(rows)) if number not in nearest or nearest[number][0] != _COPY]
            nearest |= self._alike(rest, rows, held_out.rows)
        return {number: _Found(one[0], one[1], others[one[2]]) for number, one in sorted(nearest.items())}

    def _alike(self, rest: Sequence[int], rows: Sequence[Example], others: Sequence[Asked]) -> dict[int, _Nearest]:
        """Of these rows those whose question and answer lie near those of an evaluation row."""
        from ...models.embed import load_embedder

        if not rest or not others or self.encoder is None:
            return {}
        embedder = load_embedder(self.encoder)
        theirs = unit(embedder.embed([row.said for row in others]))
        mine = unit(embedder.embed([asked_of(rows[number]).said for number in rest]))
        alike: dict[int, _Nearest] = {}
        for begin in range(0, len(rest), _TOGETHER):
            cosines = mine[begin : begin + _TOGETHER] @ theirs.T
            best = cosines.argmax(axis=1)
            for row in np.flatnonzero(cosines.max(axis=1) >= self.similarity).tolist():
                alike[rest[begin + row]] = (_ALIKE, float(cosines[row, best[row]]), int(best[row]))
        return alike

    def _refused(self, copies: Sequence[tuple[Example, _Found]], count: int) -> DataError:
        first = Problem(
            f"{len(copies)} of {count} training rows are in an evaluation set",
            "data.steps.decontaminate",
            f"a share of at most {self.limit:g}",
            "action: drop takes them out; action: note lets them stay, and tells",
        )
        shown = [Problem(f"{one.reason}, row {one.of}", str(example.origin)) for example, one in copies[:_SHOWN]]
        return DataError([first, *shown])


@dataclass(frozen=True, slots=True)
class _Found:
    """What a training row shares with an evaluation row: its kind, how much, and with which row of which set."""

    kind: str
    share: float
    other: tuple[str, Example]

    @property
    def of(self) -> str:
        return self.other[1].id

    @property
    def reason(self) -> str:
        return f"{self.kind}: {self.share:.2f}, in {self.other[0]}"


_Nearest = tuple[str, float, int]
"""A kind, a share, and the number of the evaluation row."""


class _Texts:
    """The distinct texts of the evaluation rows, those that have each, and an index of them."""

    def __init__(self, texts: Sequence[Sequence[Words]]) -> None:
        owners: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, some in enumerate(texts):
            for text in some:
                if text:
                    owners[tuple(text)].append(number)
        self._owners = list(owners.values())
        self.sought = [Sought(text) for text in owners]
        self._index = Rare([list(text) for text in owners])

    def met(self, text: Words) -> Iterator[tuple[Sought, Sequence[int], int]]:
        """Those that may be in `text`, the rows that have them, and where they would begin."""
        for hit in self._index.find(text):
            yield self.sought[hit.number], self._owners[hit.number], hit.begin


class _Evaluation:
    """The rows of all evaluation sets, and what finds those that a row may copy."""

    def __init__(self, rows: Sequence[Asked], overlap: float) -> None:
        self.rows = rows
        self._overlap = overlap
        self._passages = _Texts([(row.passage,) for row in rows])
        self._pieces = _Texts([(*row.pieces, *row.answers[:1]) for row in rows])
        self._asked = [[Sought(piece) for piece in row.pieces] for row in rows]
        count = Counter(word for row in rows for word in {word for answer in row.answers for word in answer})
        often = {word for word, found in count.items() if found > max(_OFTEN * len(rows), _OFTEN_LEAST)}
        self._answers = [[Sought(_telling(answer, often)) for answer in row.answers if answer] for row in rows]

    def nearest(self, row: Asked) -> _Nearest | None:
        """The strongest that is found: a copy before a question before a passage, then the largest share."""
        passages: dict[int, float] = {}
        for text, owners, begin in self._passages.met(row.whole):
            share = text.common(_around(row.whole, begin, text.length)) / text.length
            if share >= self._overlap:
                passages.update(dict.fromkeys(owners, share))
        begins: dict[int, list[int]] = {number: [] for number in passages}
        for _, owners, begin in self._pieces.met(row.short if row.passage else row.whole):
            for owner in owners:
                begins.setdefault(owner, []).append(begin)
        found = [one for owner in begins if (one := self._compared(row, owner, begins[owner], passages.get(owner)))]
        return min(found, key=lambda one: (_KINDS.index(one[0]), -one[1], one[2]), default=None)

    def _compared(self, row: Asked, owner: int, begins: Sequence[int], passage: float | None) -> _Nearest | None:
        """What the row shares with one evaluation row."""
        pieces, answers = self._asked[owner], self._answers[owner]
        longest = max((answer.length for answer in answers), default=0)
        met = [self._most(piece, row, begins) for piece in pieces]
        asked = min((found / piece.length for found, piece in zip(met, pieces, strict=True)), default=0.0)
        # Most rows are told apart here, before an answer is looked at.
        if asked > 0 and all(
            found + longest >= self._overlap * (piece.length + longest)
            for found, piece in zip(met, pieces, strict=True)
        ):
            if passage is None and row.passage and (text := self.rows[owner].passage):
                # Questions like "How did he feel?" are asked of many passages; one that was edited much is met here.
                shared = Sought(text).common(row.passage) / len(text)
                if shared < self._overlap:
                    return None
                passage = shared
            share = self._copied(row, pieces, met, answers, passage is not None)
            if share is not None:
                return _COPY, share, owner
        if answers and asked >= _QUESTION:
            return _ASKED, asked, owner
        return None if passage is None else (_PASSAGE, passage, owner)

    def _copied(
        self, row: Asked, pieces: Sequence[Sought], met: Sequence[int], answers: Sequence[Sought], passage: bool
    ) -> float | None:
        """The least share of a piece with its answer where the row is a copy, else None."""
        mine = row.answers or (row.whole,)
        told = [(max(answer.common(one) for one in mine), answer.length) for answer in answers]
        known, length = max(told, key=lambda one: one[0] / one[1], default=(0, 0))
        if known < self._overlap / 2 * length:
            return None
        shares = []
        for piece, found in zip(pieces, met, strict=True):
            both = piece.length + length
            needed = self._overlap if passage else 1 - (1 - self._overlap) * min(1.0, both / _SURE)
            shares.append((found + known) / both)
            if shares[-1] < needed:
                return None
        return min(shares)

    def _most(self, piece: Sought, row: Asked, begins: Sequence[int]) -> int:
        """The most words of a piece that are at either end of the row's prompt, or where it was met in a text."""
        near = piece.length * 3 // 2 + 4
        places = [row.prompt[:near]]
        if len(row.prompt) > near:
            places.append(row.prompt[-near:])
            if not row.passage:
                places += [_around(row.whole, begin, piece.length) for begin in begins]
        return max(piece.common(place) for place in places)


def _telling(answer: Words, often: Set[str]) -> Words:
    """The words that few answers have; all of them where there are no others."""
    return [word for word in answer if word not in often] or answer


def _around(text: Words, begin: int, length: int) -> Words:
    """Where a piece of `length` words that begins at `begin` lies in a text, with room for what was put in."""
    room = length // 4 + 4
    return text[max(begin - room, 0) : max(begin + length + room, 0)]


def _facts(
    sets: Mapping[str, Sequence[Example]], rows: Sequence[Example], found: Mapping[int, _Found]
) -> dict[str, Any]:
    """How many rows of each kind, how many evaluation rows have a copy, and the first copies."""
    kinds = Counter(one.kind for one in found.values())
    copies = [(rows[number], one) for number, one in found.items() if one.kind in (_COPY, _ALIKE)]
    return {
        "evaluation rows": {name: len(given) for name, given in sets.items()},
        "training rows": len(rows),
        **{kind: kinds[kind] for kind in _KINDS},
        "evaluation rows with a copy": len({(one.other[0], one.of) for _, one in copies}),
        "first copies": [
            {"row": example.id, "of": one.of, "in": one.other[0], "share": round(one.share, 4)}
            for example, one in copies[:_SHOWN]
        ],
    }
