"""Pseudonyms of people: another name of the same gender for each part of a name, the same under one key.

The lists are ours: common given names and surnames of English-speaking countries (facts: given names by sex, Social
Security Administration; surnames, Census Bureau 2010). A given name that they do not hold gets one that both use.
"""

from __future__ import annotations

import re
from typing import Protocol

__all__ = ["gender", "named"]

_FEMALE = (
    "Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Karen Sarah Lisa Nancy Sandra Ashley Emily "
    "Kimberly Margaret Donna Michelle Carol Amanda Melissa Deborah Stephanie Rebecca Sharon Laura Cynthia Amy "
    "Kathleen Angela Anna Emma Nicole Helen Samantha Katherine Christine Rachel Carolyn Janet Maria Olivia "
    "Heather Julia Sophia Alice Grace Charlotte Ruth Hannah Diana Evelyn Julie Joan Lucy Claire Martha Teresa "
    "Sara Eva Irene"
)
_MALE = (
    "James Robert John Michael David William Richard Joseph Thomas Charles Christopher Daniel Matthew Anthony "
    "Mark Donald Steven Paul Andrew Joshua Kenneth Kevin Brian George Edward Ronald Timothy Jason Jeffrey Jacob "
    "Gary Nicholas Eric Jonathan Stephen Larry Justin Scott Brandon Benjamin Samuel Gregory Frank Alexander "
    "Raymond Patrick Jack Dennis Peter Henry Adam Nathan Walter Arthur Carl Oliver Simon Martin Hugo Felix Tom "
    "Bob"
)
_BOTH = "Alex Jordan Taylor Casey Riley Morgan Jamie Robin Quinn Rowan Avery Sidney Kim Lee Sam Charlie Frankie Dana"
_SURNAMES = (
    "Smith Johnson Williams Brown Jones Davis Miller Wilson Anderson Thomas Taylor Moore Jackson Martin Thompson "
    "White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams Nelson Baker Hall "
    "Campbell Mitchell Carter Roberts Turner Phillips Parker Evans Edwards Collins Stewart Morris Murphy Cook "
    "Rogers Cooper Reed Bailey Bell Kelly Howard Ward Cox Richardson Wood Watson Brooks Bennett Gray Hughes Price "
    "Myers Long Foster Sanders Ross Powell Sullivan Russell Perry Butler Barnes Fisher Henderson Coleman Simmons "
    "Graham Reynolds Jordan Hamilton Wallace West"
)
_TITLES = {
    "mr": "male",
    "sir": "male",
    "mrs": "female",
    "ms": "female",
    "miss": "female",
    "madam": "female",
    "lady": "female",
}
_HONORS = frozenset(["dr", "prof", "professor", "rev", "jr", "sr", "ii", "iii", "iv"])
_PARTICLES = frozenset(["van", "von", "de", "der", "den", "la", "le", "di", "da", "dos", "el", "al", "bin", "ibn"])
FEMALE, MALE, BOTH, SURNAMES = (names.split() for names in (_FEMALE, _MALE, _BOTH, _SURNAMES))
_GENDERS = {name.lower(): "both" for name in BOTH}
_GENDERS |= {name.lower(): "female" for name in FEMALE} | {name.lower(): "male" for name in MALE}
_SURNAMES_ALONE = frozenset(name.lower() for name in SURNAMES) - _GENDERS.keys()
_LISTS = {"female": FEMALE, "male": MALE, "both": BOTH}


class _Drawing(Protocol):
    def below(self, limit: int) -> int: ...


class _ForWord(Protocol):
    def __call__(self, word: str) -> _Drawing: ...


def gender(word: str) -> str:
    """ "female", "male" or, where the lists do not tell, "both"."""
    return _GENDERS.get(word.lower().partition("-")[0], "both")


def named(written: str, draw: _ForWord) -> str:
    """The name with each of its parts in another's place; titles, particles and initials' points stay.

    draw: by a part of the name, so that it is the same alone and with others. The last of several parts is a surname,
    as is one alone that only the list of surnames holds. A particle that is all of a name (Al, Van Den) is the name.
    """
    words = list(re.finditer(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", written))
    own = [word for word in words if word[0].lower() not in _TITLES and word[0].lower() not in _HONORS]
    parts = [word for word in own if word[0].lower() not in _PARTICLES] or own
    told = next((_TITLES[word[0].lower()] for word in words if word[0].lower() in _TITLES), None)
    sex = told or next((gender(word[0]) for word in parts), "both")
    titled = bool(words) and (words[0][0].lower() in _TITLES or words[0][0].lower() in ("dr", "prof", "professor"))
    surname = len(parts) > 1 or titled or (bool(parts) and parts[0][0].lower() in _SURNAMES_ALONE)
    made, at = [], 0
    for number, word in enumerate(parts):
        last = number == len(parts) - 1 and surname
        made += [written[at : word.start()], _other(word[0], SURNAMES if last else _LISTS[sex], draw(word[0]))]
        at = word.end()
    return "".join([*made, written[at:]])


def _other(word: str, names: list[str], draw: _Drawing) -> str:
    """A name of the list that is not the word's own; an initial for an initial, capitals as they were."""
    names = [name for name in names if name.lower() not in word.lower()]
    name = names[draw.below(len(names))]
    if len(word) == 1:
        others = [name[0] for name in names if name[0] != word.upper()]
        return others[draw.below(len(others))]
    return name.upper() if word.isupper() else name.lower() if word.islower() else name
