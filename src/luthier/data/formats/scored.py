"""Texts with a number: text, and the number in score, rating, value or target.

Any finite number counts, also one that is spelled. Errors: ValueError for empty text and for what is no finite number.
Source: the columns of rated reviews, essays and sentences (STS, Yelp, ASAP).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ..messages import first_key
from ..turns import named, text_of

__all__ = ["Scored"]

_NUMBERS = ("score", "rating", "value", "target")
_CLASSES = ("label", "labels", "category", "intent")


class Scored(Format):
    """Reads a text; the target is the number."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {"text": "A fine violin, and cheap.", "score": 4.5}

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        key = first_key(record, _NUMBERS)
        if not isinstance(record.get("text"), str) or any(name in record for name in _CLASSES):
            return False
        return key is not None and _number(record[key]) is not None

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        text = text_of(record.get("text"), "text")
        if not text.strip():
            raise ValueError("empty text: text says nothing")
        key = first_key(record, _NUMBERS)
        if key is None or record[key] is None:
            raise ValueError("missing score")
        number = _number(record[key])
        if number is None:
            raise ValueError(f"wrong type: {key} is {named(record[key])}, not a finite number")
        return {"parts": {"text": text}, "target": number}


def _number(value: Any) -> float | None:
    """The finite number that a value is or spells; None for anything else."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
