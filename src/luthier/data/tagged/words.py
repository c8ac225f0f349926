"""The words of a text as tagged corpora cut them: marks stand alone, but not within a word ("O'Brien", "AT&T")."""

from __future__ import annotations

import re

__all__ = ["words_in"]

_WORD = re.compile(r"https?://\S+|[@#]?\w+(?:(?:['’](?!s\b)|[.&@-]|(?<=\d),(?=\d))\w+)*|'s\b|’s\b|\S", re.IGNORECASE)


def words_in(text: str) -> list[tuple[int, int]]:
    """Start and end of each word; a possessive 's is a word of its own."""
    return [found.span() for found in _WORD.finditer(text)]
