"""How near an answer's length comes to a number of words: 1 where it is met, 0 at none and at twice as many.

    1 - min(1, |words of the answer - words| / words)

Words are what white space parts. Source: length as a target of reinforcement learning, Aggarwal and Welleck 2025
(arXiv:2503.04697), eq. 1, here as a share. Errors: none.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ..core.rewards import Answer, Reward

__all__ = ["Length"]


class Length(Reward):
    """Draws answers to a length; beside another reward, with a small weight, it keeps them from growing."""

    example: ClassVar[dict[str, Any]] = {"words": 40, "weight": 0.2}
    words: int = Field(gt=0, description="how many words an answer is to have")

    def of(self, answer: Answer) -> float:
        return 1 - min(1.0, abs(len(answer.text.split()) - self.words) / self.words)
