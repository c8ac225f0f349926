"""How alike an answer and its references are: exact match and token F1, BLEU, ROUGE.

Each function scores one row. With several references the best one counts (BLEU: clipped counts over all of them and the
closest length). Units: 0 to 1, except BLEU with its customary 0 to 100.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLEU_COLUMNS", "bleu_counts", "bleu_of", "exact", "normalize", "rouge", "token_f1"]

Floats = NDArray[np.float64]

BLEU_COLUMNS = 10
"""Length of the answer, length of the reference, 4 matched and 4 counted n-gram numbers."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WORDS = re.compile(r"[^\W_]+")


def normalize(text: str) -> str:
    """Lower case without ASCII punctuation, English articles and extra spaces.

    Source: SQuAD (arXiv:1606.05250), section 6.1.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, references: Sequence[str]) -> float:
    """1 where the normalized answer is one of the normalized references, else 0."""
    return float(normalize(answer) in {normalize(reference) for reference in references})


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Best F1 of the bags of normalized words; two empty texts agree. Source: SQuAD 2.0 (arXiv:1806.03822)."""
    words = Counter(normalize(answer).split())
    return max(_bag_f1(words, Counter(normalize(reference).split())) for reference in references)


def _bag_f1(answer: Counter[str], reference: Counter[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    return 2 * (answer & reference).total() / (answer.total() + reference.total())


@cache
def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    # effective_order only keeps the score of the single row, which is not used, from warning; the counts are the same.
    return BLEU(effective_order=True)


def bleu_counts(answer: str, references: Sequence[str]) -> list[float]:
    """[10] sufficient statistics of BLEU (13a tokens, case kept); summed over rows they give `bleu_of`."""
    score = _bleu().sentence_score(answer, list(references))
    return [float(number) for number in (score.sys_len, score.ref_len, *score.counts, *score.totals)]


def bleu_of(sums: Floats) -> Floats:
    """[m] corpus BLEU (0 to 100, exponential smoothing) from summed counts [m, 10]; NaN without rows.

    Source: Papineni et al. 2002; Post 2018 (arXiv:1804.08771), as sacrebleu computes it.
    """
    from sacrebleu.metrics import BLEU

    found: list[float] = []
    for row in np.rint(sums).astype(np.int64).tolist():
        score = BLEU.compute_bleu(correct=row[2:6], total=row[6:], sys_len=row[0], ref_len=row[1], smooth_method="exp")
        found.append(score.score if row[1] > 0 else np.nan)
    return np.asarray(found, dtype=np.float64)


class _Words:
    """Letters and digits of any script in lower case; on English text the same words as rouge_score's own tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return _WORDS.findall(text.lower())


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], tokenizer=_Words())


def rouge(answer: str, references: Sequence[str]) -> tuple[float, float]:
    """(ROUGE-1, ROUGE-L) F-measures of the best reference for each, without stemming. Source: Lin 2004."""
    scores = _rouge().score_multi(list(references), answer)
    return float(scores["rouge1"].fmeasure), float(scores["rougeL"].fmeasure)
