"""Plain text: text, or the only column there is.

`text` is a document; where a record has a single column of text (beside an id), that is the document, whatever its
name, but for `prompt`, which is none unless this format is named. A file of text is one record. Long documents are cut
into windows when they are encoded, not here.
Errors: ValueError for empty text. Source: the column that Hugging Face text data sets have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ..turns import text_of

__all__ = ["Text"]


class Text(Format):
    """Reads one document."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {"text": "The plates are thin and the varnish thinner."}

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        column = _column(record)
        return column != "prompt" and isinstance(record.get(column), str)

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        column = _column(record)
        text = text_of(record.get(column), column)
        if not text.strip():
            raise ValueError(f"empty text: {column} says nothing")
        return {"parts": {"text": text}}


def _column(record: Mapping[str, Any]) -> str:
    others = [key for key in record if key != "id"]
    return others[0] if len(others) == 1 and "text" not in record else "text"
