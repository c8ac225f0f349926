"""Exchanges the sides of an axis in a text, and says what it changed.

Terms go by a lexicon; on the axis of gender come pronouns by their part of speech, given names and titles. The case of
a word, marks and the article before it are kept right. Source: counterfactual data augmentation of Lu et al. 2018
(arXiv:1807.11714) and Zmigrod et al. 2019, names as Hall Maudslay et al. 2019 (arXiv:1909.00871).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .lexicon import Lexicon
from .names import Names
from .pronouns import PRONOUNS, Around, swapped_pronoun
from .words import Edit, Word, applied, article, in_case_of, is_shielded, starts_sentence, words_of

__all__ = ["Swapper"]

_PAUSES = frozenset('.,;:!?()[]{}"“”—–\n|*/…')


@dataclass(frozen=True)
class Swapper:
    """Swaps by one lexicon. names: None leaves names and titles. pronouns: whether English pronouns are swapped."""

    lexicon: Lexicon
    names: Names | None = None
    pronouns: bool = False

    def edits(self, text: str, shift: int = 1) -> tuple[Edit, ...]:
        """What changes in the text where each side becomes the one `shift` places on, in order."""
        return tuple(_Pass(self, text, shift).edits())

    def swap(self, text: str, shift: int = 1) -> str:
        """The text with the sides exchanged."""
        return applied(text, self.edits(text, shift))


@dataclass
class _Pass:
    """One text on its way."""

    by: Swapper
    text: str
    shift: int
    words: list[Word] = field(default_factory=list)

    def edits(self) -> Iterator[Edit]:
        """The edits in order, each article before the word that it follows."""
        self.words = words_of(self.text)
        shielded = is_shielded(self.text)
        starts = [start for start, _ in shielded]
        at = 0
        while at < len(self.words):
            word = self.words[at]
            inside = bisect_right(starts, word.start) - 1
            if inside >= 0 and word.start < shielded[inside][1]:
                at += 1
                continue
            end, new = self._becomes(at)
            stop = at + 1
            while stop < len(self.words) and self.words[stop].start < end:
                stop += 1
            if new is not None and new != self.text[word.start : end]:
                yield from self._article(at, new)
                yield Edit(word.start, end, self.text[word.start : end], new)
            at = stop

    def _article(self, at: int, new: str) -> Iterator[Edit]:
        if not at or self.words[at - 1].text.lower() not in ("a", "an"):
            return
        before, word = self.words[at - 1], self.words[at]
        if self.text[before.end : word.start].isspace():
            fitting = article(before.text, word.text, new)
            if fitting != before.text:
                yield Edit(before.start, before.end, before.text, fitting)

    def _becomes(self, at: int) -> tuple[int, str | None]:
        """Where the term that begins at this word ends, and what takes its place; None: it stays."""
        word = self.words[at]
        phrase = self._phrase(word)
        if phrase is not None:
            return phrase
        small = word.text.lower()
        if self.by.pronouns and small in PRONOUNS:
            return word.end, self._pronoun(at)
        if self.by.names is not None:
            new = self.by.names.title(self.text, self.words, at) or self.by.names.name(self.text, self.words, at)
            if new is not None:
                return word.end, in_case_of(word.text, new) if len(word.text) > 2 or word.text.islower() else new
        return word.end, self._term(at)

    def _phrase(self, word: Word) -> tuple[int, str | None] | None:
        found = self.by.lexicon.phrases.get(word.text.lower())
        if found is None:
            return None
        for phrase, becomes in found:
            end = word.start + len(phrase)
            if self.text[word.start : end].lower() != phrase or self.text[end : end + 1].isalnum():
                continue
            if becomes is None:
                return end, None
            new = becomes[self.shift - 1]
            return end, None if new is None else in_case_of(self.text[word.start : end], new)
        return None

    def _term(self, at: int) -> str | None:
        word = self.words[at]
        small = word.text.lower()
        lexicon = self.by.lexicon
        new = lexicon.becomes(small, self.shift)
        if new is None:
            return None
        if small in lexicon.small and not word.text.islower():
            return None
        if small in lexicon.capital and (word.text.islower() or starts_sentence(self.text, word.start)):
            return None
        stays = (lexicon.stays or {}).get(small)
        if stays and any(other.text.lower() in stays for other in self.words[at + 1 : at + 5]):
            return None
        return in_case_of(word.text, new)

    def _pronoun(self, at: int) -> str | None:
        word = self.words[at]
        if self.text[max(0, word.start - 2) : word.start].lower() in ("s/", "s)"):
            return None
        around = Around(
            [other.text.lower() for other in self._neighbors(at, -1, 3)],
            [other.text.lower() for other in self._neighbors(at, 1, 4)],
            self._joined(at),
        )
        return in_case_of(word.text, swapped_pronoun(word.text.lower(), around))

    def _neighbors(self, at: int, step: int, count: int) -> Sequence[Word]:
        """Up to so many words on one side, to the next mark that ends a phrase; in reading order."""
        found: list[Word] = []
        place = at
        while len(found) < count and 0 <= place + step < len(self.words):
            first, second = sorted((place, place + step))
            gap = self.text[self.words[first].end : self.words[second].start]
            if "--" in gap or any(mark in _PAUSES for mark in gap):
                break
            place += step
            found.append(self.words[place])
        return found if step > 0 else found[::-1]

    def _joined(self, at: int) -> bool:
        if at + 2 >= len(self.words):
            return False
        word, after, third = self.words[at : at + 3]
        gap = self.text[word.end : after.start]
        return gap.isspace() and self.text[after.end : third.start] in ("-", "‑")
