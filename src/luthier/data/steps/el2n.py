"""Selects rows by how wrong a small classifier still is on them early in training: EL2N.

Several softmax regressions on the rows' vectors are trained for a few epochs; a row's score is the mean length of its
error, probabilities minus the one-hot class. Hard rows stay by default, as in the paper; where rows are few, easy ones
may serve better (Sorscher et al. 2022). The hardest are often mislabeled: `skip` leaves so large a share of them out.
Vectors are those of `encoder`, or hashed words where none is named.
Errors: DataError where no row has a class; as load_embedder. Source: Paul et al. 2021 (arXiv:2107.07075), section 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ...functional.softmax import error_norms
from ..choose import KEEP, count_kept, leave, spread
from ..strata import Strata
from ..vectors import vectors_of

__all__ = ["El2n"]


class El2n(Step):
    """Keeps the rows that a classifier finds hard, or easy; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"keep": 0.5, "prefer": "easy"}

    keep: float = Field(0.3, gt=0, description=KEEP)
    prefer: Literal["hard", "easy"] = Field("hard", description="which rows stay")
    skip: float = Field(0.0, ge=0, lt=1, description="share of the hardest rows that leave first")
    encoder: str | None = Field(None, description="a model for the vectors, embedded:minilm; absent: hashed words")
    epochs: int = Field(3, ge=1, description="epochs of each classifier")
    fits: int = Field(5, ge=1, description="classifiers, each from a seed of its own, whose scores are averaged")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        classes = Strata.of(rows, ("label",), "data.steps.el2n")
        vectors = vectors_of(rows, len(rows), self.encoder)
        scores = error_norms(
            vectors, classes.of_row.astype(np.int64), epochs=self.epochs, fits=self.fits, seed=context.seed
        )
        count = count_kept(self.keep, len(rows))
        hardest = np.argsort(-scores, kind="stable")
        begin = min(round(self.skip * len(rows)), len(rows) - count)
        kept = np.zeros(len(rows), bool)
        kept[hardest[begin : begin + count] if self.prefer == "hard" else hardest[len(rows) - count :]] = True
        context.facts.update(
            {
                "vectors": self.encoder or "hashed words",
                "classes": len(classes.names),
                "EL2N of rows that stay": spread(scores[kept]),
                "EL2N of all rows": spread(scores),
            }
        )
        yield from leave(rows, kept, scores, "not among the rows chosen by EL2N", context)
