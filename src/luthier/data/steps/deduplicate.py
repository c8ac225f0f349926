"""Removes duplicates: exact ones, and near ones by MinHash whose similarity is verified; tells of copies across splits.

The whole row is compared, prompt and answer. Exact: equal but for case and whitespace, with the same target. Near: the
word shingles of the whole row and those of the answer alone are both at least `threshold` alike (Jaccard), and what a
reader would grade is equal: the target, or the last line of an answer of several lines. So two rows on one long passage
with different questions and answers stay, as do two tickets that differ in a number. Clusters are joined by union-find:
a removed row is similar to some row of its cluster; the first in the file stays. Equal texts with different targets are
noted as label conflicts, never removed. Copies in another split are noted, and taken from train where `across` says so.
Errors: none. Source: Broder 1997; Lee et al., Deduplicating Training Data Makes Language Models Better, 2022.
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ...functional.minhash import Pair, clusters, similar_pairs, text_similarities

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Deduplicate"]

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
        rows = [_Row.of(example) for example in examples]
        kept = self._without_exact(rows, context)
        others = self._others(context)
        pairs, links = self._near(kept, [row for _, row in others])
        survivors = self._without_near(kept, pairs, context)
        copies = _copies(kept, others, links)
        for number in survivors:
            example = kept[number].example
            if number in copies:
                reason, other = copies[number]
                if self.across == "drop_from_train" and context.split == "train":
                    context.ledger.drop(example, reason, of=other)
                    continue
                context.ledger.note(example, reason, of=other)
            yield example

    def _others(self, context: StepContext) -> list[tuple[str, _Row]]:
        """Rows of the splits that come after this one: a copy is told once, from the side of training."""
        later = _ORDER[_ORDER.index(context.split) + 1 :] if context.split in _ORDER else ()
        return [(name, _Row.of(example)) for name in later for example in context.others.get(name, ())]

    def _without_exact(self, rows: Sequence[_Row], context: StepContext) -> list[_Row]:
        first: dict[tuple[str, str], _Row] = {}
        conflicts: dict[str, list[_Row]] = defaultdict(list)
        kept: list[_Row] = []
        for row in rows:
            same = first.setdefault((row.text, row.target), row)
            if same is row:
                kept.append(row)
                conflicts[row.text].append(row)
            else:
                context.ledger.drop(row.example, "exact duplicate", of=same.example.id)
        for group in conflicts.values():
            for row in group[1:]:
                context.ledger.note(
                    row.example, "label conflict: the same text has another target", of=group[0].example.id
                )
        return kept

    def _near(self, kept: Sequence[_Row], others: Sequence[_Row]) -> tuple[list[Pair], list[Pair]]:
        """Near duplicates among the kept rows, and of kept rows (first) in the other splits (second, from 0)."""
        rows = [*kept, *others]
        if not self.near or len(rows) < 2:
            return [], []
        own = len(kept)
        known: dict[str, int] = {}
        graded = np.array([known.setdefault(row.graded, len(known)) for row in rows])

        def wanted(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
            alike: NDArray[np.bool_] = graded[first] == graded[second]
            return (first < own) & alike

        found = similar_pairs(
            [row.shown for row in rows],
            self.threshold,
            size=self.shingle,
            permutations=self.permutations,
            wanted=wanted,
        )
        found = self._answers_alike(found, rows)
        inside = [pair for pair in found if pair.second < own]
        return inside, [Pair(p.first, p.second - own, p.similarity) for p in found if p.second >= own]

    def _answers_alike(self, pairs: Sequence[Pair], rows: Sequence[_Row]) -> list[Pair]:
        """Pairs whose answers alone are alike as well; equal ones need no counting."""
        unequal = [(p.first, p.second) for p in pairs if rows[p.first].answer != rows[p.second].answer]
        if not unequal:
            return list(pairs)
        alike = text_similarities([row.answer for row in rows], np.array(unequal), self.shingle)
        apart = {pair for pair, similarity in zip(unequal, alike.tolist(), strict=True) if similarity < self.threshold}
        return [pair for pair in pairs if (pair.first, pair.second) not in apart]

    def _without_near(self, kept: Sequence[_Row], pairs: Sequence[Pair], context: StepContext) -> list[int]:
        roots = clusters(len(kept), pairs)
        nearest: dict[int, Pair] = {}
        for pair in pairs:
            for number in (pair.first, pair.second):
                if number not in nearest or pair.similarity > nearest[number].similarity:
                    nearest[number] = pair
        survivors: list[int] = []
        for number, root in enumerate(roots):
            if root == number:
                survivors.append(number)
                continue
            pair = nearest[number]
            like = kept[pair.first if pair.second == number else pair.second].example.id
            reason = f"near duplicate: {pair.similarity:.2f} like {like}"
            context.ledger.drop(kept[number].example, reason, of=kept[root].example.id)
        return survivors


@dataclass(frozen=True, slots=True)
class _Row:
    """An example as it is compared: its words; the same normalized, with roles; what near duplicates must share."""

    example: Example
    shown: str
    text: str
    target: str
    answer: str
    graded: str

    @classmethod
    def of(cls, example: Example) -> _Row:
        messages = example.parts.get("messages", ())
        turns = messages if isinstance(messages, tuple) else ()
        answer = next((turn.content for turn in reversed(turns) if turn.trained), "")
        # Where the references stand beside the answer, the answer is the target; else it is the class.
        target = "" if turns else json.dumps(example.target)
        lines = answer.strip().splitlines()
        last = _normalized(lines[-1]) if len(lines) > 1 else ""
        calls = json.dumps([dict(turn.extra) for turn in turns], sort_keys=True, default=str) if turns else ""
        return cls(
            example,
            example.text(),
            _exact_text(example, calls),
            target,
            answer,
            f"{target}\x00{last}\x00{calls}",
        )


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


def _copies(
    kept: Sequence[_Row], others: Sequence[tuple[str, _Row]], links: Sequence[Pair]
) -> dict[int, tuple[str, str]]:
    """For each kept row that has a copy in another split: what it is, and the copy's id. An exact one is told first."""
    exact: dict[str, tuple[str, _Row]] = {}
    for split, row in others:
        exact.setdefault(row.text, (split, row))
    found: dict[int, tuple[str, str]] = {}
    for number, row in enumerate(kept):
        if row.text in exact:
            split, other = exact[row.text]
            conflict = "" if other.target == row.target else " with another target"
            found[number] = (f"exact copy in {split}{conflict}", other.example.id)
    best: dict[int, Pair] = {}
    for pair in links:
        if pair.first not in best or pair.similarity > best[pair.first].similarity:
            best[pair.first] = pair
    for number, pair in best.items():
        split, other = others[pair.second]
        found.setdefault(number, (f"near copy in {split}: {pair.similarity:.2f}", other.example.id))
    return found
