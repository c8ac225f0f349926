"""Where in a passage an answer lies: the loss of its two ends, and the likeliest answer in windows of a long passage.

Shapes: S sequences, T tokens of the pack, L tokens of a window. Source: Devlin et al. 2019 (arXiv:1810.04805), sections
4.2 and 4.3; of several windows the answer with the highest score counts, as in transformers' script for SQuAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .packing import sequence_index

__all__ = ["Answer", "best_answer", "span_losses"]

Floats = NDArray[np.float64]


class Answer(NamedTuple):
    """Characters begin to end of a passage (Python's half-open range), and by how much its score, the sum of two
    logits, is above that of no answer.
    """

    begin: int
    end: int
    margin: float


def span_losses(logits: Tensor, starts: Tensor, positions: Tensor, ends: Tensor) -> Tensor:
    """[S] nats: the mean of two cross-entropies over the tokens of a sequence, of an answer's first and last token.

    logits [T, 2]; starts [S + 1] and positions [T] as in Batch; ends [S, 2]: first and last token of the answer.
    """
    index = sequence_index(starts)
    grid = logits.new_full((len(ends), int(starts.diff().max()), 2), float("-inf"))
    logps = grid.index_put((index, positions), logits).log_softmax(dim=1)
    return -logps.gather(1, ends[:, None, :])[:, 0].mean(dim=-1)


def best_answer(windows: Sequence[Floats], longest: int) -> Answer | None:
    """The likeliest answer of at most `longest` tokens; None where no window holds a token of the passage.

    windows: [L, 4] each: logits of an answer's first and last token, and the characters of the passage that the token
    spans, from and to; -1 where it is no part of the passage. A window's first token stands for no answer; of several
    windows the lowest such score counts. Of equals the first.
    """
    best: tuple[float, int, int] | None = None
    none = min((float(window[0, 0] + window[0, 1]) for window in windows), default=0.0)
    for window in windows:
        inside = window[window[:, 2] >= 0]
        for place, (first, _, begin, _) in enumerate(inside):
            reach = inside[place : place + longest]
            last = int(reach[:, 1].argmax())
            score = float(first + reach[last, 1])
            if best is None or score > best[0]:
                best = score, int(begin), int(reach[last, 3])
    return None if best is None else Answer(best[1], best[2], best[0] - none)
