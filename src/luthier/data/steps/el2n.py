"""Selects rows by how wrong a small classifier still is on them early in training: EL2N.

Several softmax regressions on the rows' vectors are trained for ten epochs; a row's score is the mean length of its
error, probabilities minus the one-hot class. The hardest rows stay, of those that the classifiers get right: rows that
they get wrong are often mislabeled or beyond them, and by default leave first (`python -m experiments.selection` shows
what happens otherwise: where a quarter of the rows is got wrong, the hardest 30 % teach the opposite). `skip` says what
share of the hardest leaves first instead; 0 is the paper's rule. `prefer: easy` keeps the easiest rows, for many wrong
labels or few rows (Sorscher et al. 2022). Vectors are those of `encoder`, or hashed words.
Errors: DataError where no row has a class; as load_embedder. Source: Paul et al. 2021 (arXiv:2107.07075), section 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
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
    skip: float | None = Field(
        None, ge=0, lt=1, description="share of the hardest rows that leave first; absent: those that are got wrong"
    )
    encoder: str | None = Field(None, description="a model for the vectors, embedded:minilm; absent: hashed words")
    epochs: int = Field(10, ge=1, description="epochs of each classifier")
    fits: int = Field(5, ge=1, description="classifiers, each from a seed of its own, whose scores are averaged")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        classes = Strata.of(rows, ("label",), "data.steps.el2n")
        vectors = vectors_of(rows, len(rows), self.encoder)
        scores, right = error_norms(
            vectors, classes.of_row.astype(np.int64), epochs=self.epochs, fits=self.fits, seed=context.seed
        )
        kept = np.zeros(len(rows), bool)
        kept[self._order(scores, right)[: count_kept(self.keep, len(rows))]] = True
        context.facts.update(
            {
                "vectors": self.encoder or "hashed words",
                "classes": len(classes.names),
                "share got right": round(float(right.mean()), 6),
                "EL2N of rows that stay": spread(scores[kept]),
                "EL2N of all rows": spread(scores),
            }
        )
        yield from leave(rows, kept, scores, "not among the rows chosen by EL2N", context)

    def _order(self, scores: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[n] the numbers of the rows, the first to stay first."""
        hardest = np.argsort(-scores, kind="stable")
        if self.prefer == "easy":
            return hardest[::-1]
        if self.skip is None:
            left_out = hardest[~right[hardest]]
            first = hardest[right[hardest]]
        else:
            begin = round(self.skip * len(scores))
            left_out, first = hardest[:begin], hardest[begin:]
        # Where the rest is not enough, the least hard of those that were to leave stay too.
        return np.concatenate([first, left_out[::-1]])
