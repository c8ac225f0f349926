"""Where personal data stands in a text: spans of a kind with a certainty, and how overlaps are settled."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Finder", "Rule", "Span", "compact", "is_sign", "repeated", "settle"]


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a text; certainty from 0 to 1."""

    start: int
    end: int
    kind: str
    certainty: float


class Finder(Protocol):
    """Finds personal data: patterns, a tagger or presidio behind one verb."""

    def find(self, text: str) -> list[Span]:
        """The spans of the text; they may overlap."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of number that has a form: a pattern, a check of what it matched, and words that make it more certain.

    digits: how many digits it has at least.
    check: from the match's letters and digits, capitals, to the certainty without words beside it; 0 refuses.
    words: what stands at most BEFORE characters before or AFTER behind; takes away MISSING of what lacks to 1.
    """

    kind: str
    digits: int
    pattern: re.Pattern[str]
    check: Callable[[str, str], float]
    words: re.Pattern[str]

    def find(self, text: str, start: int, end: int) -> Iterable[Span]:
        """The spans of this kind in a part of a text; what stands before and behind it is seen too."""
        for match in self.pattern.finditer(text, start, end):
            certainty = self.check(compact(match[0]), match[0])
            if certainty > 0:
                yield Span(match.start(), match.end(), self.kind, self.with_words(text, match, certainty))

    def with_words(self, text: str, match: re.Match[str], certainty: float) -> float:
        """The certainty where the words beside the match are counted in."""
        before = text[max(0, match.start() - BEFORE) : match.start()]
        after = text[match.end() : match.end() + AFTER]
        if self.words.search(before) or self.words.search(after):
            return 1 - (1 - certainty) * (1 - MISSING)
        return certainty


BEFORE, AFTER, MISSING = 48, 24, 0.6
_OTHER = re.compile(r"[^0-9A-Za-z]+")


def compact(text: str) -> str:
    """The ASCII letters and digits of a text, letters as capitals: what checks and pseudonyms go by."""
    return _OTHER.sub("", text).upper()


def is_sign(sign: str) -> bool:
    """Whether `compact` keeps the sign."""
    return sign.isascii() and sign.isalnum()


def settle(spans: Sequence[Span], least: float) -> list[Span]:
    """The spans of at least that certainty without overlaps, in reading order.

    The longest wins, then the most certain, then the first, then the kind that comes first in the alphabet.
    """
    wanted = [span for span in spans if span.certainty >= least]
    if len(wanted) < 2:
        return wanted
    wanted.sort(key=lambda span: (span.start - span.end, -span.certainty, span.start, span.kind))
    kept: list[Span] = []
    for span in wanted:
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


def repeated(text: str, values: Mapping[str, str]) -> Iterator[Span]:
    """Where values that are known to be personal (value to kind) stand in a text as whole words, however certain."""
    for value, kind in values.items():
        start = text.find(value)
        while start >= 0:
            end = start + len(value)
            if not (text[start - 1 : start].isalnum() and start) and not text[end : end + 1].isalnum():
                yield Span(start, end, kind, 0.0)
            start = text.find(value, end)
