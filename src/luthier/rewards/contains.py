"""1 for an answer that contains a text, else 0.

The text is `text`, or the row's reference answer (any of several) where none is given. Source: the verifiable rewards
of Lambert et al. 2024 (arXiv:2411.15124), section 6. Errors: DataError for a row without a reference answer where no
text is given.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ..core.rewards import Answer, Reward

__all__ = ["Contains"]


class Contains(Reward):
    """Looks for a text anywhere in the answer."""

    example: ClassVar[dict[str, Any]] = {"text": "thank you", "weight": 0.5}
    text: str | None = Field(None, min_length=1, description="what is looked for; default: the row's reference answer")
    ignore_case: bool = Field(True, description="whether capitals are taken as small letters")

    def of(self, answer: Answer) -> float:
        wanted = (self.text,) if self.text is not None else answer.wanted()
        texts = (answer.text, *wanted)
        said, *sought = [text.casefold() for text in texts] if self.ignore_case else texts
        return float(any(text in said for text in sought))
