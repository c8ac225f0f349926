"""Labeled text: text, and its class in label, labels, category or intent.

The first of these keys that a record has is the class. Text and whole numbers are class names (3 becomes "3"); a list
is several classes at once, and may be empty. Errors: ValueError for empty text, a missing label (but for `unlabeled`),
or a number that is no class. Source: the columns of the usual classification sets (GLUE, Banking77, CLINC).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ...core.contracts import Format
from ...core.example import Target
from ..turns import named, text_of

__all__ = ["Labeled"]

_KEYS = ("label", "labels", "category", "intent")


class Labeled(Format):
    """Reads a text and its class or classes."""

    example: ClassVar[Mapping[str, Any]] = {"unlabeled": True}
    sample: ClassVar[Mapping[str, Any]] = {"text": "I lost my card", "label": "lost_card"}
    unlabeled: bool = Field(
        False, description="a row whose label is missing is one without a class, for objectives that learn from those"
    )

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        return "text" in record and any(key in record for key in _KEYS)

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        text = text_of(record.get("text"), "text")
        if not text.strip():
            raise ValueError("empty text: text says nothing")
        key = next((key for key in _KEYS if key in record), _KEYS[0])
        value = record.get(key)
        if self.unlabeled and (value is None or (isinstance(value, str) and not value.strip())):
            return {"parts": {"text": text}}
        if value is None:
            raise ValueError(f"missing {key}")
        target: Target
        if isinstance(value, (list, tuple)):
            target = tuple(dict.fromkeys(_name(item, key) for item in value))
        else:
            target = _name(value, key)
        return {"parts": {"text": text}, "target": target}


def _name(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Tables with gaps turn whole numbers into floats; 3.0 is class 3.
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, str):
        if value.strip():
            return value.strip()
        raise ValueError(f"missing {key}")
    raise ValueError(f"wrong type: {key} is {named(value)}, not a class")
