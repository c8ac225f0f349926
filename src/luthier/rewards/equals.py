"""1 for an answer that equals the row's reference answer (any of several), else 0.

Runs of white space count as one space, and none at the ends. Source: exact match, as SQuAD has it (Rajpurkar et al.
2016, arXiv:1606.05250, section 6.1). Errors: DataError for a row without a reference answer.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ..core.rewards import Answer, Reward

__all__ = ["Equals"]


class Equals(Reward):
    """Holds the whole answer against what the row gives as its answer."""

    example: ClassVar[dict[str, Any]] = {"ignore_case": True}
    ignore_case: bool = Field(False, description="whether capitals are taken as small letters")

    def of(self, answer: Answer) -> float:
        texts = [" ".join(text.split()) for text in (answer.text, *answer.wanted())]
        said, *wanted = [text.casefold() for text in texts] if self.ignore_case else texts
        return float(said in wanted)
