"""Measures of variety, by hand and against plain computation."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.functional.diversity import Sketch, compression_ratio, cosine_spread, distinct, vendi


def test_distinct_runs_by_hand() -> None:
    words = ["a", "b", "a", "b", "a"]
    assert distinct(words, 1) == pytest.approx(2 / 5)
    assert distinct(words, 2) == pytest.approx(2 / 4)
    assert distinct(words[:1], 2) == 0.0


def test_repetition_packs_better() -> None:
    varied = " ".join(str(number * 7919 % 10007) for number in range(500))
    assert compression_ratio("one and the same. " * 200) > 20 > 4 > compression_ratio(varied) > 1
    assert compression_ratio("") == 0.0


def test_the_vendi_score_counts_kinds() -> None:
    """Rows of k orthogonal kinds are worth k, and duplicates add nothing; two kinds 3 to 1 are worth exp of entropy."""
    kinds = np.eye(4, dtype=np.float32)
    assert vendi(np.repeat(kinds, 5, axis=0)) == pytest.approx(4)
    assert vendi(np.repeat(kinds[:1], 5, axis=0)) == pytest.approx(1)
    assert vendi(kinds[[0, 0, 0, 1]]) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert vendi(np.zeros((0, 3), np.float32)) == 0.0


def test_the_vendi_score_is_the_same_from_either_product() -> None:
    vectors = np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kernel = (vectors @ vectors.T).astype(np.float64) / 30
    values = np.linalg.eigvalsh(kernel)
    values = values[values > 1e-9]
    assert vendi(vectors) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-4)


def test_the_spread_is_the_mean_over_pairs() -> None:
    vectors = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [1 - float(vectors[a] @ vectors[b]) for a in range(20) for b in range(a)]
    assert cosine_spread(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert cosine_spread(vectors[:1]) == 0.0


def test_a_sketch_estimates_the_share_of_one_set_in_another() -> None:
    draw = np.random.default_rng(3)
    hashes = draw.integers(0, 1 << 63, 50_000, dtype=np.uint64)
    large, part = Sketch(), Sketch()
    for chunk in np.split(hashes, 10):
        large.add(chunk)
    part.add(hashes[:8000])
    part.add(draw.integers(0, 1 << 63, 2000, dtype=np.uint64))
    assert part.share_in(large) == pytest.approx(0.8, abs=0.06)
    assert large.share_in(part) == pytest.approx(8000 / 50_000, abs=0.03)


def test_small_sets_are_compared_exactly() -> None:
    one, two = Sketch(), Sketch()
    one.add(np.arange(10, dtype=np.uint64))
    two.add(np.arange(7, 30, dtype=np.uint64))
    assert one.share_in(two) == pytest.approx(0.3)
    assert Sketch().share_in(one) == 0.0
