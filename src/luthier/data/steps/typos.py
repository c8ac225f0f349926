"""Adds variants of rows with typing errors: a neighboring key, two letters exchanged, one left out, one typed twice.

People who write to a model mistype; a model that has seen it reads them better. `rate` of the words of four letters or
more get one error each, never at their first letter, which typists rarely miss and readers need. Numbers, placeholders,
code, addresses and the words of `protect` stay; words keep their number, so tagged tokens keep their tags.
Errors: none. Source: Belinkov and Bisk 2018 (arXiv:1711.02173), sections 3.2; what keys are neighbors is read off the
three layouts of ISO/IEC 9995 keyboards (US, German, French).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import StepContext
from ...core.example import Example
from ..augment.draws import Draws
from ..augment.step import Augmenting, Said
from ..augment.texts import Job, Refused, count_of, movable
from ..swaps.words import Edit, Word, applied

__all__ = ["Typos"]

_ROWS = {
    "qwerty": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "qwertz": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm"),
    "azerty": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
}
_SHIFTS = (0.0, 0.25, 0.75)
"""How far each row of keys stands to the right of the first, in keys."""
_SHORTEST = 4


class Typos(Augmenting):
    """Scope corpus, train only; words keep their number and order."""

    example: ClassVar[Mapping[str, Any]] = {"rate": 0.3, "share": 0.5, "layout": "qwertz"}

    rate: float = Field(0.15, gt=0, le=1, description="share of the longer words that get an error, one at least")
    layout: Literal["qwerty", "qwertz", "azerty"] = Field("qwerty", description="the keyboard whose neighbors are hit")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        return self.variants(examples, context, lambda: self._all)

    def _all(self, jobs: Sequence[Job]) -> list[Said]:
        return [self._said(job) for job in jobs]

    def _said(self, job: Job) -> Said:
        words = [word for word in movable(job, shortest=_SHORTEST) if word.text.isalpha()]
        if not words:
            return Refused("too few words")
        draws = Draws(job.seed)
        chosen = draws.some(words, count_of(self.rate, len(words)))
        return applied(job.text, [self._mistyped(word, draws) for word in chosen])

    def _mistyped(self, word: Word, draws: Draws) -> Edit:
        text = word.text
        kind = draws.one(("neighbor", "exchange", "leave out", "twice"))
        at = 1 + draws.below(len(text) - 1)
        near = _neighbors(self.layout).get(text[at].lower(), "")
        if kind == "neighbor" and near:
            key = draws.one(near)
            new = text[:at] + (key.upper() if text[at].isupper() else key) + text[at + 1 :]
        elif kind == "exchange":
            at = min(at, len(text) - 2)
            new = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        elif kind == "leave out":
            new = text[:at] + text[at + 1 :]
        else:
            new = text[:at] + text[at] + text[at:]
        return Edit(word.start, word.end, text, new)


@cache
def _neighbors(layout: str) -> Mapping[str, str]:
    """The keys within a key's width and a quarter of each key."""
    places = {
        key: (number + _SHIFTS[height], height)
        for height, row in enumerate(_ROWS[layout])
        for number, key in enumerate(row)
    }
    return {
        key: "".join(
            other
            for other, (x, y) in places.items()
            if other != key and abs(y - own[1]) <= 1 and abs(x - own[0]) <= 1 and (y == own[1] or abs(x - own[0]) < 1)
        )
        for key, own in places.items()
    }
