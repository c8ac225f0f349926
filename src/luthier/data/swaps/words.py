"""The words of a text with their places, what stands around them, and the case that a word is written in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Edit",
    "Word",
    "applied",
    "article",
    "in_case_of",
    "is_english",
    "is_shielded",
    "starts_sentence",
    "words_of",
]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORD = re.compile(r"[^\W\d_]+")
_SHIELDED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\bhttps?://\S+|\bwww\.\S+|\S+@\S+\.\w+|(?<!\w)[@#/]\w+", re.DOTALL)
_ENGLISH = _set(
    "the of and to in is was for that it with as on be at by this have from or had not are but an they which were "
    "all we when there can more if no out so said what up about into than them only some could would i you he she "
    "his her who whom will do did has been its my your their our a"
)
_FOREIGN = _set(
    "der die das und ist nicht ein eine mit den dem von zu auf sich le la les des et est une dans que qui pour "
    "pas el los las un una por con para del se es y o de en il di che non per da sono het een van niet dat zijn "
    "op te"
)


@dataclass(frozen=True, slots=True)
class Word:
    """A run of letters: its text and the characters [start, end) that it takes."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Edit:
    """The characters [start, end) of the old text, `old`, become `new`."""

    start: int
    end: int
    old: str
    new: str


def words_of(text: str) -> list[Word]:
    """The runs of letters of a text, in order."""
    return [Word(found[0], found.start(), found.end()) for found in _WORD.finditer(text)]


def applied(text: str, edits: Sequence[Edit]) -> str:
    """The text with edits made; they stand in order and do not overlap."""
    pieces, at = [], 0
    for edit in edits:
        pieces += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*pieces, text[at:]])


def in_case_of(old: str, new: str) -> str:
    """The new word written as the old one: all capitals, a capital first, or as it is."""
    letters = [character for character in old if character.isalpha()]
    if len(letters) > 1 and all(character.isupper() for character in letters):
        return new.upper()
    if letters and letters[0].isupper():
        return new[:1].upper() + new[1:]
    return new


def starts_sentence(text: str, start: int) -> bool:
    """Whether a word there is the first of a sentence, a line or a quotation."""
    near = text[max(0, start - 20) : start]
    before = near.rstrip(" \t\"'“”‘’([*_")
    return not before or before[-1] in ".!?:\n;" or (before[-1] == "," and '"' in near[len(before) :])


def is_shielded(text: str) -> list[tuple[int, int]]:
    """The places of code, addresses and handles, which no swap may touch."""
    return [found.span() for found in _SHIELDED.finditer(text)]


def is_english(text: str) -> bool:
    """Whether the function words of a text are English rather than those of another European language."""
    found = [word.text.lower() for word in words_of(text[:4000])]
    own = sum(word in _ENGLISH for word in found)
    other = sum(word in _FOREIGN and word not in _ENGLISH for word in found)
    return own >= other and all(character < "\u0250" or not character.isalpha() for character in text[:200:7])


_VOWELS = re.compile(r"(?:[aeiou](?<!u)|u(?!ni(?!n|m)|s[aeiu]|t[aeio]|rin|biq)|hono|heir|hour|honest)", re.IGNORECASE)
_CONSONANTS = re.compile(r"(?:eu|ewe|one\b|once\b|ou?ija)", re.IGNORECASE)


def article(old: str, before: str, after: str) -> str:
    """ "a" or "an" as the word after it asks for: changed only where the word's change calls for it."""
    had, has = _sounds_vowel(before), _sounds_vowel(after)
    if had == has or (old.lower() == "an") != had:
        return old
    return in_case_of(old, "an" if has else "a") if len(old) > 1 or old.islower() else ("An" if has else "A")


def _sounds_vowel(word: str) -> bool:
    return bool(_VOWELS.match(word)) and not _CONSONANTS.match(word)
