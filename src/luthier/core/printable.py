"""Text from data and files on its way to a terminal: shown as it is, and never obeyed."""

from __future__ import annotations

import re

from rich.markup import escape

__all__ = ["harmless", "printable"]

# Controls but tab and line feed, halves of surrogate pairs, and marks that turn the direction of what follows.
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with every character that a terminal would obey as its code: an escape is shown as \\x1b."""
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def harmless(text: str) -> str:
    """`printable`, for rich's markup: brackets are brackets."""
    return escape(printable(text))
