"""Importance resampling of texts by hashed n-grams (DSIR), and a seeded draw by weights without replacement.

Xie et al. 2023, Data Selection for Language Models via Importance Resampling (arXiv:2302.03169): both corpora are bags
of hashed n-grams; a text's log weight is the log ratio of its probability under the two, section 3 and algorithm 1.
The draw is Gumbel top-k (Kool et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .hashed import ngram_buckets

__all__ = ["bucket_counts", "gumbel_top", "log_ratios", "log_weight"]

Floats = NDArray[np.float64]


def bucket_counts(texts: Iterable[str], buckets: int) -> Floats:
    """[buckets] how often each bucket comes in the texts."""
    counts = np.zeros(buckets)
    for text in texts:
        counts += np.bincount(ngram_buckets(text, buckets), minlength=buckets)
    return counts


def log_ratios(target: Floats, raw: Floats, smoothing: float = 1.0) -> Floats:
    """[buckets] log of the target's probability over the raw one's, with `smoothing` added to every count."""
    first, second = target + smoothing, raw + smoothing
    ratios: Floats = np.log(first / first.sum()) - np.log(second / second.sum())
    return ratios


def log_weight(text: str, ratios: Floats) -> float:
    """The log importance weight of a text: the sum over its n-grams."""
    return float(ratios[ngram_buckets(text, len(ratios))].sum())


def gumbel_top(log_weights: Floats, uniforms: Floats, count: int) -> NDArray[np.bool_]:
    """[n] True for `count` rows drawn without replacement with chances in proportion to exp(log_weights).

    uniforms: [n] one number in (0, 1) for each row. A row's key depends on no other row.
    """
    keys = log_weights - np.log(-np.log(uniforms))
    chosen = np.zeros(len(keys), bool)
    chosen[np.argsort(-keys, kind="stable")[:count]] = True
    return chosen
