"""1 for an answer in which a regular expression is found, else 0.

Source: Python's `re.search`; as a verifiable reward Lambert et al. 2024 (arXiv:2411.15124), section 6. Errors:
RecipeError for a pattern that cannot be compiled.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ..core.errors import Problem
from ..core.problems import refused
from ..core.rewards import Answer, Reward

__all__ = ["Regex"]


class Regex(Reward):
    """Looks for a pattern anywhere in the answer; \\A and \\Z hold it at the ends."""

    example: ClassVar[dict[str, Any]] = {"pattern": r"(?i)kind regards\s*\Z"}
    pattern: str = Field(min_length=1, description="a regular expression of Python; (?i) ignores capitals")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            found = f"the pattern is no regular expression: {error}"
            raise refused(Problem(found, expected="a pattern that Python's re compiles")) from error
        return value

    def of(self, answer: Answer) -> float:
        return float(re.search(self.pattern, answer.text) is not None)
