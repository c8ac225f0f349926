"""Adds variants of rows by token edits: two words swapped, a word left out, a mark put in, a word cut in two.

Each variant has one kind of edit, drawn, on `rate` of its words. EDA's synonyms are left out, since they need a
thesaurus (`mask_substitution` has a model for it); what is put in is a punctuation mark, as AEDA does, so that no word
is made up. Words that turn a text around ("not", "never") are neither left out nor moved. Edits make no grammatical
text: they are for classes and prompts of few rows, and help less the better the model (see `python -m
experiments.augmentation`).
Errors: none. Source: Wei and Zou 2019, EDA (arXiv:1901.11196); Karimi et al. 2021, AEDA (arXiv:2108.13230).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import StepContext
from ...core.example import Example
from ..augment.draws import Draws
from ..augment.step import Augmenting, Said
from ..augment.texts import Job, Refused, count_of, movable, turns_around
from ..swaps.words import Edit, Word, applied

__all__ = ["TokenEdits"]

Kind = Literal["swap", "delete", "insert", "split"]
_MARKS = (".", ";", "?", ":", "!", ",")
_SHORTEST_SPLIT = 4


class TokenEdits(Augmenting):
    """Scope corpus, train only; tagged tokens get no variants, since tags go with their words."""

    example: ClassVar[Mapping[str, Any]] = {"times": 2, "rate": 0.2, "edits": ["swap", "delete"]}

    rate: float = Field(0.1, gt=0, le=0.5, description="share of the words that are edited, one at least")
    edits: tuple[Kind, ...] = Field(
        ("swap", "delete", "insert", "split"), min_length=1, description="the kinds of edit that are drawn from"
    )

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        return self.variants(examples, context, lambda: self._all)

    def _all(self, jobs: Sequence[Job]) -> list[Said]:
        return [self._said(job) for job in jobs]

    def _said(self, job: Job) -> Said:
        if job.rigid:
            return Refused("tags would no longer fit")
        words = movable(job)
        free = [word for word in words if not turns_around(word.text)]
        long = [word for word in free if len(word.text) >= _SHORTEST_SPLIT and word.text.isalpha()]
        enough = {"swap": len(free) > 1, "delete": len(free) > 1, "insert": bool(words), "split": bool(long)}
        kinds = [kind for kind in self.edits if enough[kind]]
        if not kinds:
            return Refused("too few words")
        draws = Draws(job.seed)
        kind = draws.one(kinds)
        count = count_of(self.rate, len(words))
        if kind == "swap":
            return _swapped(job.text, free, count, draws)
        if kind == "delete":
            return _without(job.text, draws.some(free, min(count, len(free) - 1)))
        if kind == "insert":
            chosen = draws.some(words, count)
            return applied(job.text, [Edit(word.start, word.start, "", f"{draws.one(_MARKS)} ") for word in chosen])
        places = [(word, word.start + 1 + draws.below(len(word.text) - 1)) for word in draws.some(long, count)]
        return applied(job.text, [Edit(place, place, "", " ") for _, place in places])


def _swapped(text: str, words: Sequence[Word], count: int, draws: Draws) -> str:
    """The text after so many exchanges of two words."""
    order = [word.text for word in words]
    for _ in range(count):
        first, second = draws.some(range(len(order)), 2)
        order[first], order[second] = order[second], order[first]
    edits = [Edit(word.start, word.end, word.text, new) for word, new in zip(words, order, strict=True)]
    return applied(text, edits)


def _without(text: str, words: Sequence[Word]) -> str:
    """The text without the words, each gone with the space before it, or after it where it comes first."""
    edits = []
    for word in words:
        start, end = word.start, word.end
        if text[:start].endswith(" "):
            start -= 1
        elif text[end:].startswith(" "):
            end += 1
        edits.append(Edit(start, end, text[start:end], ""))
    return applied(text, edits)
