"""Selects the rows that are most like a target file: importance resampling on hashed words and pairs of words (DSIR).

A row's weight is how much more probable its words are among the target's rows than among all rows here; rows are drawn
by these weights without replacement, so the rows that stay come near the target's distribution and keep its variety.
Long rows have the larger weights, up and down. Give rows of the kind to be served, never the evaluation set itself.
Errors: DataError as for any file, where the target cannot be read.
Source: Xie et al. 2023 (arXiv:2302.03169); 10,000 buckets as there, one added to each count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ...core.recipe import Source
from ...functional.importance import bucket_counts, gumbel_top, log_ratios, log_weight
from ..choose import KEEP, count_kept, leave, spread
from ..read import read
from ..strata import drawn

__all__ = ["Dsir"]


class Dsir(Step):
    """Draws rows by their likeness to another file; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"target": "embedded:general", "keep": 0.5}

    target: str = Field(description="rows of the kind that is wanted: a file, a folder, or embedded:NAME")
    keep: float = Field(0.3, gt=0, description=KEEP)
    buckets: int = Field(10_000, ge=100, description="numbers that words and pairs of words are hashed to")

    def outside(self) -> Sequence[str]:
        return (self.target,)

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        wanted = read([Source(path=self.target)]).examples
        ratios = log_ratios(
            bucket_counts((example.text() for example in wanted), self.buckets),
            bucket_counts((example.text() for example in rows), self.buckets),
        )
        weights = np.fromiter((log_weight(example.text(), ratios) for example in rows), np.float64, len(rows))
        draws = np.fromiter((drawn(context.seed, example.id) for example in rows), np.float64, len(rows))
        kept = gumbel_top(weights, draws, count_kept(self.keep, len(rows)))
        context.facts.update(
            {
                "target": self.target,
                "target rows": len(wanted),
                "log weight of rows that stay": spread(weights[kept]),
                "log weight of all rows": spread(weights),
            }
        )
        yield from leave(rows, kept, weights, "not drawn by its likeness to the target", context)
