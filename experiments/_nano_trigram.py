"""A trigram model over tokens: interpolated modified Kneser-Ney, on sorted arrays.

p(c | a b) is the count of `abc`, less a discount, over the count of `ab`, plus what the discounts set free times
p(c | b), and so on down to the uniform distribution over all pieces. The lower orders count in how many different
contexts a token was seen, not how often. Discounts for counts of one, two and more come from the counts of counts.
Source: Chen and Goodman 1999 (An empirical study of smoothing techniques), sections 2.7 and 3, equations 17 and 26.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trigram", "discounts"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def discounts(counts: Ints) -> Floats:
    """[4] what is taken from a count of 0, 1, 2, and 3 or more.

    Between 0.1 and the count itself, so that something is always left for what was not seen; where counts of one or two
    are missing (a toy), 0.75 of each.
    """
    of = np.bincount(counts[counts <= 4], minlength=5).astype(np.float64)
    if not of[1] or not of[2]:
        return np.array([0.0, 0.75, 0.75, 0.75])
    share = of[1] / (of[1] + 2 * of[2])
    found = [0.0, *(i - (i + 1) * share * of[i + 1] / of[i] if of[i] else share for i in (1, 2, 3))]
    return np.clip(np.array(found), [0.0, 0.1, 0.1, 0.1], [0.0, 1.0, 2.0, 3.0])


class _Order:
    """The n-grams of one order as sorted codes context * pieces + token, with their discounted counts.

    shares [codes]: discounted count over the context's total. freed [contexts]: the share that discounts set free.
    """

    def __init__(self, codes: Ints, counts: Ints, pieces: int) -> None:
        taken = discounts(counts)[np.minimum(counts, 3)]
        contexts = codes // pieces
        starts = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
        totals = np.add.reduceat(counts, starts).astype(np.float64)
        self.codes, self.contexts, self.pieces = codes, contexts[starts], pieces
        self.freed: Floats = np.add.reduceat(taken, starts) / totals
        self.shares: Floats = (counts - taken) / np.repeat(totals, np.diff([*starts, len(codes)]))

    def mix(self, contexts: Ints, tokens: Ints, lower: Floats) -> Floats:
        """[n] the probabilities of this order, given those of the order below."""
        own = _found(self.codes, self.shares, contexts * self.pieces + tokens, absent=0.0)
        return own + _found(self.contexts, self.freed, contexts, absent=1.0) * lower


def _found(keys: Ints, values: Floats, wanted: Ints, absent: float) -> Floats:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], absent)


class Trigram:
    """Counted from documents of token ids, each with its end token last; `pieces`: how many different ids there are.

    A document's first token is not predicted, as a language model without a begin token does not; the second one is,
    from the end token before the document and the first.
    """

    def __init__(self, documents: Sequence[Ints], end: int, pieces: int) -> None:
        self.end, self.pieces = end, pieces
        ids = np.concatenate([[end], *documents]).astype(np.int64)
        starts = ids[1:-1] != end  # a trigram whose middle is the end token would predict a first token
        codes = (ids[:-2] * pieces + ids[1:-1]) * pieces + ids[2:]
        del ids
        three, often = np.unique(codes[starts], return_counts=True)
        # Each different trigram abc is one context of bc, and each different bigram bc one context of c.
        two, before_two = np.unique(three % pieces**2, return_counts=True)
        one, before_one = np.unique(two % pieces, return_counts=True)
        sizes = ((three, often), (two, before_two), (one, before_one))
        self.three, self.two, self.one = (_Order(of, counts, pieces) for of, counts in sizes)

    def probabilities(self, first: Ints, second: Ints, token: Ints) -> Floats:
        """[n] p(token | first second)."""
        none = np.zeros_like(token)
        unigram = self.one.mix(none, token, np.full(len(token), 1 / self.pieces))
        bigram = self.two.mix(second, token, unigram)
        return self.three.mix(first * self.pieces + second, token, bigram)

    def log_probability(self, document: Ints) -> float:
        """The sum over all tokens of a document but its first, in nats."""
        ids = np.concatenate([[self.end], document]).astype(np.int64)
        return float(np.log(self.probabilities(ids[:-2], ids[1:-1], ids[2:])).sum())
