"""The language of a text: probabilities over those that py3langid knows, from the model in its package.

Codes are those of ISO 639 (en, de, zh); `zxx` is what is no language: numbers, markup, names of files.
Source: Lui and Baldwin 2012 (langid.py), naive Bayes on chosen byte n-grams; Barbaresi's fork and model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ...core.errors import DataError, nearest
from .markup import protected

__all__ = ["NO_LANGUAGE", "letters", "probabilities", "prose", "wanted"]

NO_LANGUAGE = "zxx"

_LONGEST = 3000
"""Characters that are looked at: more change nothing but the time."""

_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "ar": ("ary", "arz"),
    "ku": ("sdh",),
    "no": ("nn",),
    "zh": ("wuu", "yue"),
}
"""Languages that ISO 639-3 has under one macrolanguage, as far as they are told apart."""

_NO_PROSE = re.compile(
    r"https?://\S+|www\.\S+|\S+@\S+\.\w+|<[^<>\n]{1,200}>|[\w./\\]+[/\\]\w[\w./\\]*|[#@]\w+|\w*\d\w*"
)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def wanted(codes: Iterable[str]) -> frozenset[str]:
    """The codes, with the members of those that are macrolanguages. Errors: DataError for an unknown code."""
    known = sorted(code for code in _identifier().nb_classes if code != NO_LANGUAGE)
    found: set[str] = set()
    for code in codes:
        if code not in known:
            near = nearest(code, known)
            raise DataError(
                f"the language '{code}' is not known",
                expected="codes of ISO 639, such as en, de, zh; known are " + ", ".join(known),
                remedy=f"did you mean '{near}'?" if near else "leave it out",
            )
        found |= {code, *_MEMBERS.get(code, ())}
    return frozenset(found)


def prose(text: str) -> str:
    """The text's words: without code, JSON, rows of tables, addresses, tags and what holds digits; at most 3,000
    characters.
    """
    text = text[: 4 * _LONGEST]
    pieces, place = [], 0
    for start, end in protected(text):
        pieces.append(text[place:start])
        place = end
    words = _NO_PROSE.sub(" ", " ".join([*pieces, text[place:]]))
    return " ".join(words.split())[:_LONGEST]


def letters(words: str) -> int:
    """How much of a language there is to see: letters, those of scripts that write syllables or words counted as 3."""
    return sum(3 if character >= "\u2e80" else 1 for character in words if character.isalpha())


def probabilities(words: str) -> dict[str, float]:
    """Codes and their probabilities, the most likely first."""
    return {str(code): float(share) for code, share in _identifier().rank(words)}
