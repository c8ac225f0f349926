"""Adds variants of rows in which a masked language model has written some words anew, each in its context.

One word after the other is hidden, and another is drawn from the `top` that the model finds most probable there, in
proportion to their probabilities; the word itself and other forms of it are not drawn. Each word so fits what was
written before it. Words with digits, placeholders, code, addresses, negations, tagged entities and the words of
`protect` stay. The label is the row's: where it hangs on single words (sentiment), keep `rate` low and look at what
came of it. A run with the objective masked_lm makes a model from text like yours.
Errors: as load_model; ModelError for a model without a trained head for masked words. Source: Kobayashi 2018
(arXiv:1805.06201) and Wu et al. 2019 (arXiv:1812.06705), without their conditioning on the label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ...core.contracts import StepContext
from ...core.example import Example
from ..augment.draws import Draws
from ..augment.step import Augmenting, Change, Said
from ..augment.texts import Job, Refused, count_of, movable, turns_around
from ..swaps.words import Edit, Word, applied, in_case_of, starts_sentence

if TYPE_CHECKING:
    from ...models.fill import Filler

__all__ = ["MaskSubstitution"]


class MaskSubstitution(Augmenting):
    """Scope corpus, train only; words keep their number and order, so tagged tokens keep their tags."""

    example: ClassVar[Mapping[str, Any]] = {"model": "runs/words", "rate": 0.2, "top": 5}

    model: str = Field(min_length=1, description="a masked language model: a run, a folder or a hub id")
    rate: float = Field(0.15, gt=0, le=1, description="share of the words that are written anew, one at least")
    top: int = Field(10, ge=1, le=1000, description="the most probable words, from which one is drawn")

    def outside(self) -> Sequence[str]:
        return (self.model,)

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        return self.variants(examples, context, self._changer)

    def _changer(self) -> Change:
        from ...models.fill import load_filler

        filler = load_filler(self.model)
        return lambda jobs: self._said(jobs, filler)

    def _said(self, jobs: Sequence[Job], filler: Filler) -> list[Said]:
        """All texts at once, a word of each in every round."""
        works = [_Work(job, self.rate) for job in jobs]
        while going := [work for work in works if work.waiting]:
            found = filler.words([work.gap for work in going], 2 * self.top)
            for work, candidates in zip(going, found, strict=True):
                work.write(candidates, self.top)
        return [work.said for work in works]


class _Work:
    """A text whose words are written anew, from the last to the first that was drawn, so that places hold."""

    def __init__(self, job: Job, rate: float) -> None:
        words = [word for word in movable(job) if word.text.isalpha() and not turns_around(word.text)]
        self.text = job.text
        self.words = len(words)
        self.draws = Draws(job.seed)
        self.waiting: list[Word] = self.draws.some(words, count_of(rate, self.words)) if words else []

    @property
    def gap(self) -> tuple[str, str]:
        word = self.waiting[-1]
        return self.text[: word.start], self.text[word.end :]

    def write(self, candidates: Sequence[tuple[str, float]], top: int) -> None:
        word = self.waiting.pop()
        fitting = [pair for pair in candidates if _other(pair[0], word.text)][:top]
        if not fitting:
            return
        new = self.draws.weighted(fitting)
        self.text = applied(self.text, [Edit(word.start, word.end, word.text, self._cased(word, new))])

    def _cased(self, word: Word, new: str) -> str:
        """The new word in the case of the old one; English "I" is a capital anywhere, and says nothing of its place."""
        if new == "i":
            return "I"
        inside = word.text == "I" and not starts_sentence(self.text, word.start)
        return new if inside else in_case_of(word.text, new)

    @property
    def said(self) -> Said:
        return self.text if self.words else Refused("too few words")


def _other(new: str, old: str) -> bool:
    """Whether it is another word: neither the same but for its ending, nor a stray letter."""
    short, long = sorted((new.lower(), old.lower()), key=len)
    if len(new) == 1 < len(old) and new.lower() not in ("a", "i"):
        return False
    return short != long and not (len(short) > 3 and long.startswith(short) and len(long) - len(short) < 3)
