"""A text with other words in place of its spans; everything outside of the spans stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .spans import Span

__all__ = ["masked", "without", "written_anew"]


def written_anew(text: str, spans: Sequence[Span], made: Callable[[str, str], str]) -> str:
    """Each span replaced by `made(kind, what stood there)`. spans: in reading order, without overlaps."""
    pieces, place = [], 0
    for span in spans:
        pieces += [text[place : span.start], made(span.kind, text[span.start : span.end])]
        place = span.end
    return "".join([*pieces, text[place:]])


def masked(text: str, spans: Sequence[Span], *, each_word: bool = False) -> str:
    """Each span replaced by its kind in brackets, [EMAIL]; each_word: each of its words."""

    def mask(kind: str, written: str) -> str:
        sign = f"[{kind.upper()}]"
        return re.sub(r"\S+", sign, written) if each_word else sign

    return written_anew(text, spans, mask)


def without(text: str, spans: Sequence[Span]) -> str:
    """The text without its spans, and without one of the two spaces that were around each."""
    pieces, place = [], 0
    for span in spans:
        doubled = text[span.end : span.end + 1] == " " and text[: span.start][-1:] in ("", " ", "\n")
        pieces.append(text[place : span.start])
        place = span.end + doubled
    return "".join([*pieces, text[place:]])
