"""How well vectors order texts: Spearman's correlation with scores, and what is found for a question.

Source: Spearman 1904; Manning, Raghavan and Schütze 2008, chapter 8; nDCG: Järvelin and Kekäläinen 2002, with gains of
0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["found_at", "rank_correlation", "ranks", "unit"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def ranks(values: Floats) -> Floats:
    """[n] ranks from 1, of equal values their mean."""
    ordered = np.sort(values)
    below, upto = np.searchsorted(ordered, values), np.searchsorted(ordered, values, side="right")
    return np.asarray(0.5 * (below + upto + 1), dtype=np.float64)


def rank_correlation(pairs: Floats) -> float:
    """Spearman's correlation of two columns [n, 2]; NaN where one of them does not vary."""
    first, second = (ranks(pairs[:, column]) for column in (0, 1))
    first, second = first - first.mean(), second - second.mean()
    spread = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / spread if spread > 0 else float("nan")


def found_at(near: Floats, relevant: Bools, cuts: Sequence[int]) -> dict[str, Floats]:
    """[n] each, for n questions of how near each of M texts is [n, M] and which of them are right: `recall_k` for each
    cut (the share of the right ones among the first k), `precision_1`, `mrr` (of the first right one) and `ndcg_10`.

    Of equally near texts those that are not right come first, so that saying the same of all gains nothing. A question
    without a right text gets NaN.
    """
    order = np.lexsort((relevant, -near), axis=-1)
    hits = np.take_along_axis(relevant, order, axis=-1)
    right = relevant.sum(-1)
    with np.errstate(invalid="ignore"):
        found = {f"recall_{cut}": hits[:, :cut].sum(-1) / right for cut in cuts}
        found["precision_1"] = np.where(right > 0, hits[:, 0], np.nan)
        found["mrr"] = np.where(right > 0, 1 / (1 + hits.argmax(-1)), np.nan)
        gains = 1 / np.log2(np.arange(2, 12))[: hits.shape[1]]
        ideal = np.concatenate([[0.0], gains.cumsum()])[np.minimum(right, len(gains))]
        found["ndcg_10"] = (hits[:, : len(gains)] * gains).sum(-1) / ideal
    return found


def unit(vectors: Floats) -> Floats:
    """[n, H] at unit length; zeros stay."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float64)
