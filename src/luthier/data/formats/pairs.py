"""Pairs of texts, with a class, with a number for how alike they are, or with a negative.

The texts stand in a and b, sentence1 and sentence2, premise and hypothesis, question1 and question2, text1 and text2,
anchor and positive, query and positive, passage or document; `negative` is a text that does not belong to the first.
`label`, `gold_label` or `is_duplicate` is a class (text or a whole number); `score` or `similarity`, and a label with
a decimal point, a number. Errors: ValueError for an empty text, for a label "-", by which annotators disagreed.
Source: the columns of SNLI, MultiNLI, GLUE, STS-B, Quora's questions, and the triplets of Sentence-Transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Target
from ..turns import named, text_of

__all__ = ["Pairs"]

_TEXTS = (
    ("a", "b"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("anchor", "positive"),
    ("query", "positive"),
    ("query", "passage"),
    ("query", "document"),
)
_CLASSES = ("label", "gold_label", "is_duplicate")
_NUMBERS = ("score", "similarity")


class Pairs(Format):
    """Reads two texts into the parts a and b, a negative beside them, and what is said of the two into the target."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {"a": "Ann sleeps.", "b": "Ann is awake.", "label": "contradiction"}

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        names = _names(record)
        return names is not None and all(isinstance(record[name], str) for name in names)

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        names = _names(record)
        if names is None:
            raise ValueError("missing pair: no two columns such as a and b, premise and hypothesis, query and passage")
        parts = {part: _text(record[name], name) for part, name in zip("ab", names, strict=True)}
        if record.get("negative") is not None:
            parts["negative"] = _text(record["negative"], "negative")
        return {"parts": parts, "target": _target(record)}


def _names(record: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in _TEXTS if pair[0] in record and pair[1] in record), None)


def _text(value: Any, name: str) -> str:
    text = text_of(value, name)
    if not text.strip():
        raise ValueError(f"empty text: {name} says nothing")
    return text


def _target(record: Mapping[str, Any]) -> Target:
    number = next((key for key in _NUMBERS if key in record), None)
    if number is not None:
        return _number(record[number], number)
    key = next((key for key in _CLASSES if key in record), None)
    if key is None:
        return None
    value = record[key]
    if isinstance(value, float):
        return _number(value, key)
    if isinstance(value, (bool, int)):
        return str(value).lower()
    name = text_of(value, key).strip()
    if name in ("", "-"):
        raise ValueError(f"missing {key}" if not name else f"no label: {key} is '-', the annotators did not agree")
    return name


def _number(value: Any, key: str) -> float:
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"wrong type: {key} is {named(value)}, not a number")
    return number
