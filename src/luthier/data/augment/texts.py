"""The words of a text that may be changed, and what must stay: numbers, placeholders, code, addresses, phrases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..swaps.words import Word, is_shielded

__all__ = ["Job", "Refused", "count_of", "held_in", "kept_whole", "movable", "phrases", "turns_around"]

Span = tuple[int, int]

_NEGATIONS = re.compile(
    r"no|not|never|none|nobody|nothing|nowhere|neither|nor|cannot|without|hardly|scarcely|barely|\w+n['’]t"
    r"|nicht|kein(?:e[mnrs]?)?|nie|niemals|nichts|ohne|ne|pas|jamais|rien|sans|non|sin|nunca|nada",
    re.IGNORECASE,
)

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_PLACEHOLDER = re.compile(r"\{[^{}\n]*\}|<[^<>\n]{1,60}>|\[[^\[\]\n]{1,60}\]|%\w|\$\w+|_{2,}\w*")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Job:
    """A text that is to be said differently.

    held: the places [begin, end) that stay, in order. rigid: number and order of the words must stay (tags go with
    them). seed: of the draws for this text.
    """

    text: str
    held: Sequence[Span]
    rigid: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a text is not said differently: a kind, for the counts."""

    reason: str


def movable(job: Job, *, shortest: int = 1) -> list[Word]:
    """The words of at least so many characters, in order, that neither hold a digit nor lie in what is held."""
    return [
        Word(found[0], found.start(), found.end())
        for found in _WORD.finditer(job.text)
        if len(found[0]) >= shortest
        and not any(character.isdigit() for character in found[0])
        and not any(begin < found.end() and found.start() < end for begin, end in job.held)
    ]


def turns_around(word: str) -> bool:
    """Whether the word negates: without it, a text says the opposite (English and some of its neighbors)."""
    return _NEGATIONS.fullmatch(word) is not None


def count_of(rate: float, words: int) -> int:
    """How many of so many words are edited: the rate, rounded, and one at least."""
    return max(1, round(rate * words))


def phrases(protect: Iterable[str]) -> re.Pattern[str] | None:
    """Finds the phrases, as words and whatever their case; None without phrases."""
    longest = sorted((re.escape(phrase) for phrase in protect if phrase.strip()), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest)})(?!\w)", re.IGNORECASE) if longest else None


def held_in(text: str, protected: re.Pattern[str] | None) -> list[Span]:
    """The places of placeholders, code, addresses and protected phrases."""
    found = [match.span() for match in _PLACEHOLDER.finditer(text)] + is_shielded(text)
    if protected is not None:
        found += [match.span() for match in protected.finditer(text)]
    return sorted(found)


def kept_whole(job: Job, said: str) -> Refused | None:
    """Why a text that a model said anew cannot stand for the old one; None where it can.

    Numbers and what is held must be in it, it must not be the same words, and be half to twice as long.
    """
    if not said.strip():
        return Refused("nothing was said")
    if _plain(said) == _plain(job.text):
        return Refused("the same words")
    old, new = len(_WORD.findall(job.text)), len(_WORD.findall(said))
    if new * 2 < old or new > 2 * max(old, 2):
        return Refused("half as long, or twice")
    if Counter(_NUMBER.findall(job.text)) != Counter(_NUMBER.findall(said)):
        return Refused("another number")
    lowered = said.lower()
    if any(job.text[begin:end].lower() not in lowered for begin, end in job.held):
        return Refused("what is protected was lost")
    return None


def _plain(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
