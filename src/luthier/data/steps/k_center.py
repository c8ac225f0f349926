"""Selects rows that cover all others: greedy k-center on the rows' vectors, a coreset.

Each row that is taken is the one farthest from those taken before, so rare kinds of rows stay and crowds are thinned.
Outliers and damaged rows are far from everything and stay too: clean before. Vectors are those of `encoder`, or hashed
words where none is named. Held in memory: one vector a row. Time grows with rows times rows that stay.
Errors: as load_embedder. Source: Sener and Savarese 2018 (arXiv:1708.00489), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ...functional.coreset import k_center
from ..choose import KEEP, count_kept, leave, spread
from ..vectors import vectors_of

__all__ = ["KCenter"]


class KCenter(Step):
    """Keeps a few rows so that each other one is near to one of them; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"keep": 0.5}

    keep: float = Field(0.3, gt=0, description=KEEP)
    encoder: str | None = Field(None, description="a model for the vectors, embedded:minilm; absent: hashed words")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        vectors = vectors_of(rows, len(rows), self.encoder)
        taken, distances = k_center(vectors, count_kept(self.keep, len(rows)))
        kept = np.zeros(len(rows), bool)
        kept[taken] = True
        far = distances.astype(np.float64)
        context.facts.update(
            {
                "vectors": self.encoder or "hashed words",
                "farthest row from those that stay": round(float(far.max()), 6),
                **({} if kept.all() else {"distance of rows that leave": spread(far[~kept])}),
            }
        )
        yield from leave(rows, kept, far, "covered by a row at distance", context)
