"""Given names in pairs, and titles: which capitalized words are somebody's given name, and which must stay.

A name is left where it is a surname ("Mr. Henry", "James Stewart"), a place ("in Virginia", "Mary Street") or an
ordinary word ("Mark my words"). Sources: data/lexicons/names.yaml and people.yaml name theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from .lexicon import LEXICONS, read_yaml
from .words import Word, starts_sentence

__all__ = ["Names", "known_person", "names"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SPEECH = _set(
    "said says asked asks replied answered cried told whispered shouted laughed smiled nodded was is had has did "
    "does went came looked thought knew could would felt took s"
)
_AT = _set("in from near to at through across around outside inside of throughout")
_SETS = ("words", "places", "before", "after", "surname", "surnames", "dotted")


@dataclass(frozen=True)
class Names:
    """The pairs both ways, and what says that a name is none."""

    other: Mapping[str, str]
    side: Mapping[str, int]
    titles: Mapping[str, tuple[int, str]]
    words: frozenset[str]
    places: frozenset[str]
    before: frozenset[str]
    after: frozenset[str]
    surname: frozenset[str]
    surnames: frozenset[str]
    dotted: frozenset[str]

    def name(self, text: str, words: Sequence[Word], at: int) -> str | None:
        """What the word becomes if it is somebody's given name, else None."""
        word = words[at].text
        usual = word if word in self.other else word.capitalize() if word.isupper() and len(word) > 2 else ""
        if usual not in self.other:
            return None
        before = words[at - 1].text if at else ""
        gap = text[words[at - 1].end : words[at].start] if at else "\n"
        follows = words[at + 1].text if at + 1 < len(words) else ""
        after = text[words[at].end : words[at + 1].start] if follows else "\n"
        beside = before if gap in (" ", ". ", ".") else ""
        if beside in self.after or (follows in self.before and after == " "):
            return None
        if self._is_surname(usual, beside, follows if after == " " else "", gap) or gap in ("-", "'", "’"):
            return None
        if usual in self.places and before.lower() in _AT and not (follows in _SPEECH and after == " "):
            return None
        if usual in self.places and after == ", " and follows[:1].isupper() and follows not in self.other:
            return None
        first = starts_sentence(text, words[at].start)
        if usual in self.words and first and follows not in _SPEECH and not (after == " " and follows.istitle()):
            return None
        return self.other[usual]

    def _is_surname(self, name: str, beside: str, follows: str, gap: str) -> bool:
        if beside in self.surname:
            return name in self.surnames and (not follows.istitle() or follows in _SPEECH)
        if beside in self.titles and self.titles[beside][0] != self.side[name]:
            return True
        return gap == " " and beside in self.other

    def title(self, text: str, words: Sequence[Word], at: int) -> str | None:
        """What a title becomes, with or without its point; None for a word that is no title there."""
        word = words[at].text
        usual = word if word in self.titles else word.capitalize() if word.isupper() and len(word) > 1 else ""
        if usual not in self.titles or at + 1 == len(words):
            return None
        follows = words[at + 1].text
        gap = text[words[at].end : words[at + 1].start]
        if not follows[:1].isupper() or gap.strip(".") not in (" ", "") or not gap.endswith(" "):
            return None
        if usual not in self.dotted and "." in gap:
            return None
        new = self.titles[usual][1]
        pointed = new in self.dotted and "." not in gap and not re.search(r"\b(?:Mrs?|Ms) ", text)
        return new + "." if pointed and not (usual in self.dotted and usual != "Ms") else new


@cache
def names() -> Names:
    """The names that ship with the package."""
    value = read_yaml(LEXICONS / "names.yaml")
    other, side = {}, {}
    for pair in value["pairs"]:
        for number, name in enumerate(pair):
            other[name], side[name] = pair[1 - number], number
    titles = {
        title: (number, new)
        for number, gender in enumerate(("female", "male"))
        for title, new in value["titles"][gender].items()
    }
    sets = {key: frozenset(value[key]) for key in _SETS}
    return Names(other, side, titles, **sets)


@cache
def _people() -> re.Pattern[str]:
    value = read_yaml(LEXICONS / "people.yaml")
    known = sorted({*value["full"], *value["alone"]}, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(re.escape(name) for name in known) + r")\b")


def known_person(text: str) -> str | None:
    """The first person of history that the text names."""
    found = _people().search(text)
    return found[0] if found else None
