"""What the steps that select rows share: how many stay, and the words with which the others leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..core.contracts import StepContext
from ..core.example import Example

__all__ = ["KEEP", "count_kept", "leave", "spread"]

KEEP = "how much stays: a share up to 1, above that a number of rows"
"""The description of the field `keep`."""


def count_kept(keep: float, rows: int) -> int:
    """How many of so many rows stay: at least one, at most all."""
    return min(max(round(keep * rows if keep <= 1 else keep), 1), rows)


def leave(
    rows: Iterable[Example], kept: NDArray[np.bool_], scores: NDArray[np.float64], reason: str, context: StepContext
) -> Iterator[Example]:
    """The rows that are kept ([n]), in order; the others leave for the reason, each with its score ([n])."""
    for number, example in enumerate(rows):
        if kept[number]:
            yield example
        else:
            context.ledger.drop(example, f"{reason}: {scores[number]:.4g}")


def spread(scores: NDArray[np.float64]) -> dict[str, float]:
    """The scores in five numbers, for the facts of a step."""
    names = ("smallest", "quarter", "median", "three quarters", "largest")
    return dict(zip(names, (round(float(q), 6) for q in np.quantile(scores, (0, 0.25, 0.5, 0.75, 1))), strict=True))
