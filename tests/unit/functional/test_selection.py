"""The mathematics of selection: k-center, importance weights, Gumbel draws, EL2N."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from luthier.functional.coreset import k_center
from luthier.functional.hashed import hashed_vectors, ngram_buckets
from luthier.functional.importance import bucket_counts, gumbel_top, log_ratios, log_weight
from luthier.functional.softmax import error_norms, fitted, probabilities


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# ---- k-center --------------------------------------------------------------------------------------------------------


def test_k_center_is_within_twice_the_best_radius() -> None:
    """Gonzalez' bound, against all choices of three among twelve points."""
    for seed in range(20):
        points = np.random.default_rng(seed).normal(size=(12, 2)).astype(np.float32)
        apart = np.linalg.norm(points[:, None] - points[None], axis=2)
        best = min(apart[:, list(chosen)].min(axis=1).max() for chosen in itertools.combinations(range(12), 3))
        taken, distances = k_center(points, 3)
        assert distances.max() <= 2 * best + 1e-5
        assert distances == pytest.approx(apart[:, taken].min(axis=1), abs=1e-3)


def test_k_center_takes_every_kind_before_a_second_of_one_and_no_row_twice() -> None:
    points = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    taken, distances = k_center(points, 4)
    assert sorted(taken // 5) == [0, 1, 2, 3]
    assert distances.max() == 0
    assert sorted(k_center(points, 20)[0]) == list(range(20))


# ---- importance ------------------------------------------------------------------------------------------------------


def test_the_log_weight_is_the_log_ratio_of_two_bags_of_ngrams() -> None:
    buckets = 1 << 16
    target, raw = ["red wine", "red wine"], ["red wine", "green tea", "green tea", "green tea"]
    ratios = log_ratios(bucket_counts(target, buckets), bucket_counts(raw, buckets))
    # Of 6 n-grams "red", "wine" and "red wine" are 2 each; of 12 they are 1 each; one is added to every bucket.
    each = math.log((2 + 1) / (6 + buckets)) - math.log((1 + 1) / (12 + buckets))
    assert log_weight("red wine", ratios) == pytest.approx(3 * each)
    assert log_weight("green tea", ratios) < 0 < log_weight("red wine", ratios)


def test_words_and_pairs_are_hashed_the_same_everywhere() -> None:
    assert ngram_buckets("Red wine", 10_000).tolist() == ngram_buckets("red  WINE", 10_000).tolist()
    assert len(ngram_buckets("one two three", 10_000)) == 5
    assert ngram_buckets("123456789", 1 << 32).tolist() == [0xCBF43926]  # the check value of CRC-32
    assert ngram_buckets("ab c", 1 << 40)[1] != ngram_buckets("a bc", 1 << 40)[1]


def test_gumbel_draws_have_the_chances_that_the_weights_say() -> None:
    draw = np.random.default_rng(5)
    weights = np.log(np.array([0.5, 0.3, 0.2]))
    first = np.zeros(3)
    for _ in range(4000):
        first += gumbel_top(weights, draw.uniform(size=3), 1)
    assert first / 4000 == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    assert gumbel_top(weights, draw.uniform(size=3), 2).sum() == 2


# ---- vectors and EL2N ------------------------------------------------------------------------------------------------


def test_hashed_vectors_are_of_unit_length_and_near_for_texts_that_share_words() -> None:
    texts = ["the violin is red", "the violin is old", "seven ships sailed", ""]
    vectors = hashed_vectors(texts, 4)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-6)
    assert vectors[0] @ vectors[1] > 0.3 > abs(vectors[0] @ vectors[2])


def test_the_scores_are_norms_of_errors_of_the_short_trainings() -> None:
    draw = np.random.default_rng(2)
    vectors, classes = unit(draw.normal(size=(90, 6))), draw.integers(0, 3, 90)
    found, right = error_norms(vectors, classes, epochs=2, fits=2, seed=4)
    chances = [probabilities(vectors, *fitted(vectors, classes, 3, 2, seed)) for seed in (4, 5)]
    expected = [np.linalg.norm(one - np.eye(3)[classes], axis=1) for one in chances]
    assert found == pytest.approx(np.mean(expected, axis=0), abs=1e-6)
    assert not np.allclose(expected[0], expected[1])
    assert right.tolist() == (np.mean(chances, axis=0).argmax(axis=1) == classes).tolist()


def test_rows_with_a_wrong_class_are_the_hardest() -> None:
    draw = np.random.default_rng(2)
    true = draw.integers(0, 3, 300)
    vectors = unit(np.eye(3)[true] @ draw.normal(size=(3, 16)) + 0.3 * draw.normal(size=(300, 16)))
    told = true.copy()
    told[:15] = (told[:15] + 1) % 3
    scores, right = error_norms(vectors, told, epochs=3, fits=3, seed=1)
    assert set(np.argsort(-scores)[:15].tolist()) == set(range(15))
    assert not right[:15].any()
    assert right[15:].mean() > 0.97


def test_the_classifier_learns() -> None:
    draw = np.random.default_rng(2)
    classes = draw.integers(0, 3, 300)
    vectors = unit(np.eye(3)[classes] @ draw.normal(size=(3, 16)) + 0.2 * draw.normal(size=(300, 16)))
    assert (probabilities(vectors, *fitted(vectors, classes, 3, 5, 1)).argmax(axis=1) == classes).mean() > 0.97
