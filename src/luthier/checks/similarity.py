"""Whether vectors of two texts are as near as people say the texts are alike: Spearman's correlation.

spearman: of cosines with the scores of pairs, -1 to 1. Source: Reimers and Gurevych 2019 (arXiv:1908.10084), section 4;
Cer et al. 2017 (arXiv:1708.00055). Errors: DataError without pairs that have a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example
from ..functional.retrieval import rank_correlation, unit

__all__ = ["Similarity"]


class Similarity(Check):
    """Reads scored pairs of the test split, or of `on`, and holds cosines against the scores."""

    example: ClassVar[Mapping[str, Any]] = {"limit": 500}
    tasks: ClassVar[frozenset[str]] = frozenset({"features"})
    needs: ClassVar[frozenset[str]] = frozenset({"a"})
    on: str | None = Field(None, description="a file of scored pairs; default: the recipe's own test rows")
    limit: int | None = Field(None, gt=0, description="at most so many pairs, chosen by their ids")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        rows = context.read(self.on) if self.on is not None else test
        scored = [row for row in rows if {"a", "b"} <= row.parts.keys() and isinstance(row.target, float)]
        if not scored:
            raise DataError(
                f"none of the {len(rows)} rows is a pair with a number",
                where=self.on or "data.test",
                expected="rows with a, b and score: how alike the two texts are",
                remedy="name a file of scored pairs in checks: similarity: on",
            )
        return context.choose(scored, self.limit)

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        vectors = subject.embed([str(row.parts[name]) for name in ("a", "b") for row in examples])
        first, second = np.split(unit(vectors), 2)
        cosines = (first * second).sum(axis=1)
        scores = np.array([float(str(row.target)) for row in examples])
        return context.scores(examples, {"pairs": np.stack([cosines, scores], axis=1)}, note=subject.about)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        return [Measure("spearman", "higher", rank_correlation, source="pairs")]
