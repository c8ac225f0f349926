"""The words of a class's name: what it says where it is read as text.

Source: Yin et al. 2019 (arXiv:1909.00161), who compare texts with the words of labels.
"""

from __future__ import annotations

import re

__all__ = ["in_words"]

_JOINTS = re.compile(r"(?<=\w)[_./-]+(?=\w)|(?<=[a-z])(?=[A-Z][a-z])")
"""What names put between words: signs, or a capital after a small letter."""


def in_words(name: str) -> str:
    """`card_arrival`, `card-arrival` and `CardArrival` with spaces between their words; letters stay as they are."""
    return " ".join(_JOINTS.sub(" ", name).replace("_", " ").split()) or name
