"""Lexicons of an axis: which words stand for which side, read from YAML and checked whole.

    axis: religion
    sides: [Christian, Muslim, Jewish]
    nouns: [[church, mosque, synagogue]]        singular; plurals follow by rule
    terms: [[Christian, Muslim, Jewish]]        as they are; null where a side has no word
    only: {nunnery: monastery}                  one way (with two sides only)
    keep: [Church of England]                   nothing inside is swapped

Where a word stands twice, the first row says what it becomes. Errors: DataError with all that is wrong in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ...core.errors import DataError, LuthierError, Problem, nearest
from ...core.plain_yaml import parse

__all__ = ["LEXICONS", "Lexicon", "load_lexicon", "plural", "read_yaml", "shipped"]

LEXICONS = Path(__file__).resolve().parent.parent / "lexicons"
"""Where the lexicons that ship with the package lie."""

_LISTS = ("keep", "small", "capital", "bodies")
_KEYS = ("axis", "sides", "nouns", "terms", "only", "stays", *_LISTS)


@dataclass(frozen=True)
class Lexicon:
    """What is swapped on an axis. Words are keys in lower case.

    words: what a word becomes, for each shift to another side (of two sides: one); None: nothing.
    phrases: those of several words, by their first word, longest first; with those in which nothing is swapped (None).
    small, capital: swapped only where written so. stays: words that keep a term where they follow. bodies: to be noted.
    """

    axis: str
    sides: tuple[str, ...]
    words: Mapping[str, tuple[str | None, ...]]
    phrases: Mapping[str, tuple[tuple[str, tuple[str | None, ...] | None], ...]]
    small: frozenset[str] = frozenset()
    capital: frozenset[str] = frozenset()
    stays: Mapping[str, frozenset[str]] | None = None
    bodies: frozenset[str] = frozenset()

    def becomes(self, word: str, shift: int) -> str | None:
        """What a whole text that is one term of the lexicon becomes; None where it is none."""
        found = self.words.get(word.lower())
        return None if found is None else found[shift - 1]


def shipped(name: str) -> Path:
    """The file of a lexicon that ships with the package, or of that name. Errors: DataError with the nearest."""
    own = LEXICONS / f"{name}.yaml"
    if own.is_file() and name not in ("names", "people"):
        return own
    path = Path(name).expanduser()
    if path.is_file():
        return path
    names = [file.stem for file in LEXICONS.glob("*.yaml") if file.stem not in ("names", "people")]
    near = nearest(name, names)
    raise DataError(
        f"there is no lexicon '{name}'",
        where=name,
        expected=f"a YAML file, or one that ships with luthier: {', '.join(sorted(names))}",
        remedy=f"did you mean '{near}'?" if near else None,
    )


def load_lexicon(path: Path) -> Lexicon:
    """The lexicon that the file holds. Errors: DataError with everything that is wrong in it."""
    value = read_yaml(path)
    problems = list(_problems(value, str(path)))
    if problems:
        raise DataError(problems)
    return _built(value)


@cache
def _parsed(path: Path, changed: int) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))[0]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the lexicon cannot be read: {error}", where=str(path)) from error
    except (LuthierError, yaml.YAMLError) as error:
        raise DataError(f"the lexicon is no YAML: {error}", where=str(path)) from error


def read_yaml(path: Path) -> Any:
    """The plain values of a lexicon's file, read once. Errors: DataError."""
    return _parsed(path, path.stat().st_mtime_ns if path.is_file() else 0)


def _problems(value: Any, where: str) -> Iterable[Problem]:
    if not isinstance(value, dict):
        yield Problem("this is no mapping", where, "axis, sides and terms", None)
        return
    for key in value:
        if key not in _KEYS:
            near = nearest(str(key), _KEYS)
            yield Problem(
                f"'{key}' is no part of a lexicon", where, ", ".join(_KEYS), f"did you mean '{near}'?" if near else None
            )
    sides: Any = value.get("sides")
    if not isinstance(value.get("axis"), str) or not value["axis"].strip():
        yield Problem("it has no axis", where, "axis: a name, for the ledger", None)
    if not _words(sides) or len(sides) < 2 or len(set(sides)) < len(sides):
        yield Problem(f"its sides are {sides!r}", where, "sides: two or more different names", None)
        return
    if not value.get("nouns") and not value.get("terms"):
        yield Problem("it has no terms", where, f"terms: [[a word for each of {', '.join(sides)}], ...]", None)
    for key in ("nouns", "terms"):
        rows = value.get(key) or []
        for row in rows if isinstance(rows, list) else [rows]:
            fine = isinstance(row, list) and _words([word for word in row if word is not None])
            if not fine or len(row) != len(sides):
                yield Problem(f"{key} has the row {row!r}", where, f"{len(sides)} words, one for each side", None)
    for key in _LISTS:
        if not _words(value.get(key) or []):
            yield Problem(f"{key} is {value[key]!r}", where, "a list of words", None)
    yield from _mapping_problems(value, len(sides), where)


def _mapping_problems(value: Mapping[str, Any], sides: int, where: str) -> Iterable[Problem]:
    for key in ("only", "stays"):
        given = value.get(key) or {}
        if not isinstance(given, dict):
            yield Problem(f"{key} is {given!r}", where, "a mapping of words", None)
            continue
        for word, other in given.items():
            if key == "stays":
                fine, expected = _words(other), "a list of words that keep it"
            else:
                fine = sides == 2 and _words([other])
                expected = "the one word that it becomes, on an axis of two sides"
            if not fine:
                yield Problem(f"{key} has {word}: {other!r}", where, expected, None)


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word.strip() for word in value)


def _built(value: Mapping[str, Any]) -> Lexicon:
    count = len(value["sides"])
    found: dict[str, tuple[str | None, ...]] = {}
    for word, other in (value.get("only") or {}).items():
        found[word.lower()] = (other,)
        found[plural(word).lower()] = (plural(other),)
    for rows, forms in (("nouns", (str, plural)), ("terms", (str,))):
        for row in value.get(rows) or []:
            for form in forms:
                words = [None if word is None else form(word) for word in row]
                for side, word in enumerate(words):
                    if word is not None:
                        becomes = tuple(words[(side + shift) % count] for shift in range(1, count))
                        found.setdefault(word.lower(), becomes)
    phrases: dict[str, list[tuple[str, tuple[str | None, ...] | None]]] = {}
    every: list[tuple[str, tuple[str | None, ...] | None]] = [*found.items()]
    for phrase, swapped in [*every, *((kept.lower(), None) for kept in value.get("keep") or [])]:
        if swapped is None or not phrase.isalpha():
            start = re.search(r"[^\W\d_]+", phrase)
            if start:
                phrases.setdefault(start[0], []).append((phrase, swapped))
    return Lexicon(
        value["axis"],
        tuple(value["sides"]),
        found,
        {first: tuple(sorted(some, key=lambda one: -len(one[0]))) for first, some in phrases.items()},
        frozenset(word.lower() for word in value.get("small") or []),
        frozenset(word.lower() for word in value.get("capital") or []),
        {word.lower(): frozenset(others) for word, others in (value.get("stays") or {}).items()},
        frozenset(word.lower() for word in value.get("bodies") or []),
    )


_IRREGULAR = {"wife": "wives", "housewife": "housewives", "youth": "youths", "lady": "ladies", "hero": "heroes"}


def plural(word: str) -> str:
    """The plural of an English noun, by rule; a phrase's last word takes it."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if re.search(r"(?:^|[a-z])man$", word) and not word.lower().endswith(("human", "german", "roman")):
        return word[:-2] + "en"
    if word.endswith("wife"):
        return word[:-2] + "ves"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word if word == "marquis" else word + "es"
    return word + "s"
