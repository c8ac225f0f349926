"""Text matching against sacrebleu, rouge_score, and SQuAD's definitions worked out by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from luthier.functional.text_match import BLEU_COLUMNS, bleu_counts, bleu_of, exact, normalize, rouge, token_f1

TEXT = "the a violin, bridge neck of strings cello repair cost quick bow. two three It's café 45-60 EUR"
WORDS = TEXT.split()


def sentences(count: int, seed: int, longest: int = 14) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(1, longest))) for _ in range(count)]


def test_normalization_by_hand():
    assert normalize("The  quick, brown fox -- an Answer!") == "quick brown fox answer"
    assert normalize("theatre, A anthem") == "theatre anthem"
    assert normalize("U.S.") == "us"


def test_exact_takes_any_reference():
    assert exact("A violin.", ["cello", "the Violin"]) == 1.0
    assert exact("violins", ["violin"]) == 0.0


def test_token_f1_by_hand():
    # answer: new bridge new strings; reference: new bridge. Common 2, so 2 * 2 / (4 + 2).
    assert token_f1("new bridge, new strings", ["the new bridge"]) == pytest.approx(2 * 2 / 6)
    assert token_f1("the", ["a"]) == 1.0
    assert token_f1("", ["bow"]) == 0.0
    assert token_f1("bow", ["neck", "bow hair"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("longest", [3, 14])
def test_summed_counts_give_corpus_bleu(longest):
    answers, references = sentences(40, 1, longest), sentences(40, 2, longest)
    counts = np.array([bleu_counts(a, [r]) for a, r in zip(answers, references, strict=True)])
    assert counts.shape == (40, BLEU_COLUMNS)
    assert bleu_of(counts.sum(0)[None])[0] == sacrebleu.corpus_bleu(answers, [references]).score


def test_bleu_with_several_references_and_with_empty_answers():
    answers = [*sentences(20, 3), ""]
    first, second = sentences(21, 4), sentences(21, 5)
    counts = np.array([bleu_counts(a, pair) for a, *pair in zip(answers, first, second, strict=True)])
    assert bleu_of(counts.sum(0)[None])[0] == sacrebleu.corpus_bleu(answers, [first, second]).score


def test_bleu_is_undefined_without_rows_and_zero_without_a_match():
    assert np.isnan(bleu_of(np.zeros((1, BLEU_COLUMNS))))[0]
    assert bleu_of(np.array(bleu_counts("xylophone", ["bow"]))[None])[0] == 0.0


def test_rouge_equals_the_library_on_english():
    scorer = RougeScorer(["rouge1", "rougeL"])
    for answer, reference in zip(sentences(60, 6), sentences(60, 7), strict=True):
        answer, reference = answer.replace("é", "e"), reference.replace("é", "e")
        theirs = scorer.score(reference, answer)
        assert rouge(answer, [reference]) == (theirs["rouge1"].fmeasure, theirs["rougeL"].fmeasure)


def test_rouge_reads_other_scripts():
    # The library's own tokenizer keeps a-z and 0-9 only and gives 0 here.
    assert rouge("Скрипка готова", ["скрипка готова"]) == (1.0, 1.0)
