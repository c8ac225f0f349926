"""Ratings of single answers: a prompt, an answer, and a number that says how good it is.

The prompt is `prompt`, `instruction` (with `input`) or `question`, the answer `completion`, `response` or `output`, the
number `rating`, or `score` where the format is named, on any scale, higher is better. Errors: ValueError for empty
prompts and answers, and for a rating that is no finite number. Source: the columns of HelpSteer (Wang et al. 2023,
arXiv:2311.09528) with its attributes as one number, and of rated answers elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ..messages import answered, first_key
from ..turns import named

__all__ = ["Ratings"]

_PROMPTS = ("prompt", "instruction", "question")
_ANSWERS = ("completion", "response", "output")
_NUMBERS = ("rating", "score")


class Ratings(Format):
    """Reads a prompt and an answer into turns; the target is the number."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {"prompt": "Is it late?", "completion": "Yes, past ten.", "rating": 4.5}

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        # A score beside an instruction is mostly a filter's: such rows are for supervised training.
        told = _number(record.get("rating")) is not None
        return told and bool(first_key(record, _PROMPTS)) and bool(first_key(record, _ANSWERS))

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        key = first_key(record, _NUMBERS)
        if key is None or record[key] is None:
            raise ValueError("missing rating")
        rating = _number(record[key])
        if rating is None:
            raise ValueError(f"wrong type: {key} is {named(record[key])}, not a finite number")
        prompt, answer = answered(record, _PROMPTS, _ANSWERS)
        return {"parts": {"prompt": prompt, "completion": answer}, "target": rating}


def _number(value: Any) -> float | None:
    """The finite number that a value is or spells; None for anything else."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
