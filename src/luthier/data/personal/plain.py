"""A text as patterns read it: other signs for the same digit, space or hyphen as ASCII's."""

from __future__ import annotations

import re

__all__ = ["plain_of"]

_SPACES, _DASHES = "\u00a0\u2007\u2009\u202f\u3000", "\u2010\u2011\u2012\u2013\u2212"
_ALIKE = {**{ord(sign): " " for sign in _SPACES}, **{ord(sign): "-" for sign in _DASHES}}
_UNUSUAL = re.compile(f"[{_SPACES}{_DASHES}]")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")


def plain_of(text: str) -> str:
    """The text, character for character, with other scripts' digits, spaces and hyphens as ASCII's.

    Escaped line ends (JSON inside text) are taken for what they stand for: the letter n begins no address.
    """
    if not text.isascii():
        if _UNUSUAL.search(text):
            text = text.translate(_ALIKE)
        text = _OTHER_DIGIT.sub(lambda digit: str(int(digit[0])), text)
    return re.sub(r"\\[nrt]", "\n\n", text) if "\\" in text else text
