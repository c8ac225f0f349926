"""Removes duplicates: exact ones, and near ones by MinHash whose similarity is verified; tells of copies across splits.

The whole row is compared, prompt and answer. Exact: equal but for case and whitespace, with the same target. Near: the
word shingles of the whole row and those of the answer alone (of question and context, or of a pair, the shorter text)
are both at least `threshold` alike (Jaccard), and what a reader would grade is equal: the target, or the last line of
an answer of several lines. So two rows on one long passage with different questions stay, as do two tickets that differ
in a number, and a preference beside its reverse. Clusters are joined by union-find: a removed row is similar to some
row of its cluster; the first in the file stays. Equal texts with different targets are noted as label conflicts, never
removed. Copies in another split are noted, and taken from train where `across` says so. What is held of a row is its
id, four digests and its signature; the rows themselves may lie on disk.
Errors: none. Source: Broder 1997; Lee et al., Deduplicating Training Data Makes Language Models Better, 2022.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ...functional.minhash import Pair, clusters, similar_pairs, text_similarities

__all__ = ["Deduplicate"]

Keys = NDArray[np.uint64]
Places = NDArray[np.int64]

_ORDER = ("train", "validation", "test")


class Deduplicate(Step):
    """Keeps the first row of each cluster of duplicates; scope corpus."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    example: ClassVar[Mapping[str, Any]] = {"threshold": 0.8}

    near: bool = Field(True, description="remove near duplicates too, not only exact ones")
    threshold: float = Field(0.8, gt=0, le=1, description="smallest Jaccard similarity of near duplicates")
    shingle: int = Field(3, ge=1, le=20, description="successive words that are compared as one")
    permutations: int = Field(128, ge=16, le=1024, description="hash functions of the MinHash signature")
    across: Literal["note", "drop_from_train"] = Field(
        "note", description="what happens to a training row that has a copy in validation or test"
    )

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        later = self._later(context)
        own = _Facts.of(rows)
        told: dict[int, list[_Told]] = defaultdict(list)  # by row: what the ledger says of it
        kept = _without_exact(own, told)
        pairs, links = self._near(rows, own, kept, later)
        self._near_drops(own, kept, pairs, told)
        self._copies(own, kept, later, links, told, leaves=context.split == "train")
        for number, example in enumerate(rows):
            leaves = False
            for entry in told.get(number, ()):
                if entry.leaves:
                    context.ledger.drop(example, entry.reason, of=entry.of)
                    leaves = True
                    break
                context.ledger.note(example, entry.reason, of=entry.of)
            if not leaves:
                yield example

    def _later(self, context: StepContext) -> list[_Later]:
        """The splits that come after this one: a copy is told once, from the side of training."""
        names = _ORDER[_ORDER.index(context.split) + 1 :] if context.split in _ORDER else ()
        found = [(name, context.others[name]) for name in names if context.others.get(name)]
        return [_Later(name, rows, _Facts.of(rows)) for name, rows in found]

    def _near(
        self, rows: Sequence[Example], own: _Facts, kept: Places, later: Sequence[_Later]
    ) -> tuple[list[Pair], list[Pair]]:
        """Near duplicates among the kept rows, and of kept rows (first) in the later splits (second, from 0)."""
        others = [example for split in later for example in split.rows] if later else []
        count = len(kept)
        if not self.near or count + len(others) < 2:
            return [], []
        graded = np.concatenate([own.graded[kept], *(split.facts.graded for split in later)])
        answered = np.concatenate([own.answer[kept], *(split.facts.answer for split in later)])

        def wanted(first: Places, second: Places) -> NDArray[np.bool_]:
            alike: NDArray[np.bool_] = graded[first] == graded[second]
            return (first < count) & alike

        every = _Rows(rows, kept, others)
        found = similar_pairs(
            _Texts(every, Example.text),
            self.threshold,
            size=self.shingle,
            permutations=self.permutations,
            wanted=wanted,
        )
        unequal = [(p.first, p.second) for p in found if answered[p.first] != answered[p.second]]
        if unequal:
            # The answers alone must be alike as well; equal ones need no counting.
            alike = text_similarities(_Texts(every, _answer), np.array(unequal), self.shingle)
            apart = {pair for pair, similar in zip(unequal, alike.tolist(), strict=True) if similar < self.threshold}
            found = [pair for pair in found if (pair.first, pair.second) not in apart]
        inside = [pair for pair in found if pair.second < count]
        return inside, [Pair(p.first, p.second - count, p.similarity) for p in found if p.second >= count]

    def _near_drops(self, own: _Facts, kept: Places, pairs: Sequence[Pair], told: Mapping[int, list[_Told]]) -> None:
        nearest: dict[int, Pair] = {}
        for pair in pairs:
            for number in (pair.first, pair.second):
                if number not in nearest or pair.similarity > nearest[number].similarity:
                    nearest[number] = pair
        for number, root in enumerate(clusters(len(kept), pairs)):
            if root != number:
                pair = nearest[number]
                like = own.ids[kept[pair.first if pair.second == number else pair.second]]
                reason = f"near duplicate: {pair.similarity:.2f} like {like}"
                told[int(kept[number])].append(_Told(reason, own.ids[kept[root]], leaves=True))

    def _copies(
        self,
        own: _Facts,
        kept: Places,
        later: Sequence[_Later],
        links: Sequence[Pair],
        told: Mapping[int, list[_Told]],
        *,
        leaves: bool,
    ) -> None:
        """What each kept row has for a copy in a later split. An exact one is told first."""
        leaves = leaves and self.across == "drop_from_train"
        exact: dict[int, tuple[str, str, int]] = {}
        places: list[tuple[str, str]] = []
        for split in later:
            for key, target, name in zip(split.facts.text, split.facts.target, split.facts.ids, strict=True):
                exact.setdefault(int(key), (split.name, name, int(target)))
                places.append((split.name, name))
        best: dict[int, Pair] = {}
        for pair in links:
            if pair.first not in best or pair.similarity > best[pair.first].similarity:
                best[pair.first] = pair
        for number, place in enumerate(kept.tolist()):
            if int(own.text[place]) in exact:
                name, other, target = exact[int(own.text[place])]
                conflict = "" if target == int(own.target[place]) else " with another target"
                told[place].append(_Told(f"exact copy in {name}{conflict}", other, leaves))
            elif number in best:
                name, other = places[best[number].second]
                told[place].append(_Told(f"near copy in {name}: {best[number].similarity:.2f}", other, leaves))


@dataclass(frozen=True, slots=True)
class _Told:
    """What the ledger says of a row: why, beside which other, and whether the row leaves."""

    reason: str
    of: str
    leaves: bool


@dataclass(frozen=True)
class _Facts:
    """What n rows are compared by: ids, and 64-bit digests of the exact text, target, answer, and what is graded."""

    ids: list[str]
    text: Keys
    target: Keys
    answer: Keys
    graded: Keys

    @classmethod
    def of(cls, rows: Sequence[Example]) -> _Facts:
        ids: list[str] = []
        keys = np.empty((len(rows), 4), np.uint64)
        for number, example in enumerate(rows):
            ids.append(example.id)
            keys[number] = [_digest(text) for text in _compared(example)]
        return cls(ids, *(np.ascontiguousarray(column) for column in keys.T))


@dataclass(frozen=True)
class _Later:
    """A split that comes later: its name, its rows and their facts."""

    name: str
    rows: Sequence[Example]
    facts: _Facts


class _Rows(Sequence[Example]):
    """The kept rows, and after them others."""

    def __init__(self, rows: Sequence[Example], kept: Places, others: Sequence[Example]) -> None:
        self.rows, self.kept, self.others = rows, kept.tolist(), others

    def __len__(self) -> int:
        return len(self.kept) + len(self.others)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        return self.rows[self.kept[at]] if at < len(self.kept) else self.others[at - len(self.kept)]


class _Texts(Sequence[str]):
    """A text of each row, made as it is asked for: the rows may lie on disk."""

    def __init__(self, rows: _Rows, text: Callable[[Example], str]) -> None:
        self.rows, self.text = rows, text

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Any) -> Any:
        return [self.text(row) for row in self.rows[at]] if isinstance(at, slice) else self.text(self.rows[at])


def _without_exact(own: _Facts, told: Mapping[int, list[_Told]]) -> Places:
    """Places of the rows that stay; the first of equal ones does. Equal texts with other targets are told."""
    first: dict[tuple[int, int], int] = {}
    alike: dict[int, int] = {}
    kept: list[int] = []
    for number, key in enumerate(zip(own.text.tolist(), own.target.tolist(), strict=True)):
        same = first.setdefault(key, number)
        if same != number:
            told[number].append(_Told("exact duplicate", own.ids[same], leaves=True))
            continue
        kept.append(number)
        other = alike.setdefault(key[0], number)
        if other != number:
            reason = "label conflict: the same text has another target"
            told[number].append(_Told(reason, own.ids[other], leaves=False))
    return np.array(kept, np.int64)


def _compared(example: Example) -> tuple[str, str, str, str]:
    """The exact text with roles, the target, the answer, and what near duplicates must share."""
    messages = example.parts.get("messages", ())
    turns = messages if isinstance(messages, tuple) else ()
    answer = _answer(example)
    # Where the references stand beside the answer, the answer is the target; else it is the class.
    target = "" if turns else json.dumps(example.target)
    lines = answer.strip().splitlines()
    last = _normalized(lines[-1]) if len(lines) > 1 else ""
    calls = json.dumps([dict(turn.extra) for turn in turns], sort_keys=True, default=str) if turns else ""
    return _exact_text(example, calls), target, answer, f"{target}\x00{last}\x00{calls}"


def _answer(example: Example) -> str:
    """What must be alike by itself: the answer, or of several texts the shortest, which a long one would hide."""
    for name in ("messages", "chosen", "completion"):
        turns = example.parts.get(name)
        if isinstance(turns, tuple):
            return next((turn.content for turn in reversed(turns) if turn.trained), "")
    texts = [part for part in example.parts.values() if isinstance(part, str)]
    return min(texts, key=len) if len(texts) > 1 else ""


def _digest(text: str) -> int:
    # 64 bits: of a hundred million rows, two that differ are taken for equal with a chance of 1 in 3,700.
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(found, "little")


def _normalized(text: str) -> str:
    form = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(form.casefold().split())


def _exact_text(example: Example, calls: str) -> str:
    pieces: list[str] = [calls]
    for name, part in example.parts.items():
        if isinstance(part, str):
            pieces += [name, _normalized(part)]
        else:
            pieces += [name, *(f"{turn.role}\x01{_normalized(turn.content)}" for turn in part)]
    return "\x00".join(pieces)
