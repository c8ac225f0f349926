"""Perplexity and its kin, from log-probabilities summed over rows and the tokens that were counted.

Rows are [log-probability (nats), tokens, ...]; only rows with tokens count. Source: Jelinek et al. 1977; bits a byte as
in Gao et al. 2020 (arXiv:2101.00027), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.evidence import Subject
from ..core.example import Example
from .statistics import OfSums

__all__ = ["bits_per_byte", "perplexity", "perplexity_ratio", "predicted"]

Floats = NDArray[np.float64]

perplexity = OfSums(lambda sums, rows: np.exp(-sums[:, 0] / sums[:, 1]))
"""exp of the mean negative log-probability of a token."""
perplexity_ratio = OfSums(lambda sums, rows: np.exp(sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1]))
"""Of the first two columns' perplexity over that of the next two."""
bits_per_byte = OfSums(lambda sums, rows: -sums[:, 0] / (np.log(2) * sums[:, 2]))
"""Negative log-probability in bits over the third column, the bytes."""


def predicted(subject: Subject, examples: Sequence[Example]) -> tuple[list[Example], Floats]:
    """The examples that have anything to predict, and [n, 2]: their log-probabilities and tokens."""
    sums, tokens = subject.logps(examples)
    kept = np.flatnonzero(tokens > 0).tolist()
    return [examples[index] for index in kept], np.stack([sums[kept], tokens[kept]], axis=1).astype(np.float64)
