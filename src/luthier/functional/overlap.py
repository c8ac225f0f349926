"""What two texts share, word for word and in order: words, longest common subsequence, an index of rare n-grams.

A copy that was edited (words replaced, left out, put in) keeps the rest of its words in their order, so the share of
a text's words in the longest common subsequence falls no faster than the share that was edited. Runs of n words that
are rare in the texts looked for say which texts are worth comparing: at an edited share p one of them survives with
probability (1 - p) ** n, so n grows with the length of the text and is small for short ones. n = 13 for long texts is
GPT-3's rule (Brown et al. 2020, appendix C), 8 that of Llama 3's report (2024, section 5.1.4).

Longest common subsequence by bits of an integer: Crochemore et al. 2001; Hyyrö 2004.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Hit", "Rare", "Sought", "gram_of", "words"]

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
"""Kana, Chinese characters and hangul are written without spaces: each character is a word."""
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])\w)+")
_LENGTHS = ((600, 13), (150, 8), (50, 5))
_SHORTEST = 3
_COMMON, _COMMON_SHARE = 20, 0.005
"""A gram that is in more texts than both of these says nothing about one of them."""
_FEW = 0.1

Words = list[str]
Gram = tuple[str, ...]


def words(text: str) -> Words:
    """The words of a text, without punctuation; NFKC, case ignored."""
    form = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _WORD.findall(form.casefold())


class Sought:
    """A list of words, prepared for being compared with many others."""

    def __init__(self, text: Sequence[str]) -> None:
        self.length = len(text)
        self._full = (1 << len(text)) - 1
        self._places: dict[str, int] = {}
        for place, word in enumerate(text):
            self._places[word] = self._places.get(word, 0) | 1 << place

    def common(self, text: Iterable[str]) -> int:
        """The length of the longest common subsequence with another list of words."""
        places = self._places
        row = self._full  # a zero bit for each word that ends a longer common subsequence
        for word in text:
            if word in places:
                met = row & places[word]
                row = (row + met | row - met) & self._full
        return self.length - row.bit_count()


def gram_of(length: int) -> int:
    """How many successive words of a text of `length` words are looked for as one."""
    return next((size for least, size in _LENGTHS if length >= least), _SHORTEST)


@dataclass(frozen=True, slots=True)
class Hit:
    """A known text of which enough is in another: its number, and where in the other text it would begin."""

    number: int
    begin: int


class Rare:
    """An index of texts by their rare n-grams. A text shorter than three words is looked for whole."""

    def __init__(self, texts: Sequence[Words]) -> None:
        self._size = [min(gram_of(len(text)), len(text)) for text in texts]
        found: dict[int, dict[Gram, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for number, (text, size) in enumerate(zip(texts, self._size, strict=True)):
            if text:
                for place, gram in enumerate(_grams(text, size)):
                    found[size][gram].append((number, place))
        most = max(_COMMON, int(_COMMON_SHARE * len(texts)))
        self._places = {
            size: {gram: places for gram, places in grams.items() if len({number for number, _ in places}) <= most}
            for size, grams in found.items()
        }
        rare = [0] * len(texts)
        for grams in self._places.values():
            for places in grams.values():
                for number, _ in places:
                    rare[number] += 1
        self._needed = [
            max(1, round(_FEW * count)) if size <= _SHORTEST else 1
            for count, size in zip(rare, self._size, strict=True)
        ]

    def find(self, text: Words) -> list[Hit]:
        """The texts of which at least one rare gram is in `text`, of short ones a tenth of them; by number."""
        begins: dict[int, list[int]] = defaultdict(list)
        for size, grams in self._places.items():
            if grams.keys().isdisjoint(_grams(text, size)):
                continue
            for place, gram in enumerate(_grams(text, size)):
                for number, there in grams.get(gram, ()):
                    begins[number].append(place - there)
        return [
            Hit(number, sorted(places)[len(places) // 2])
            for number, places in sorted(begins.items())
            if len(places) >= self._needed[number]
        ]


def _grams(text: Words, size: int) -> Iterator[Gram]:
    return zip(*(text[place:] for place in range(size)), strict=False)
