"""MinHash near duplicates against plain sets, scikit-learn's counts and the band formula (correctness 26)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from elapsed import takes_less_than
from sklearn.feature_extraction.text import CountVectorizer

from luthier.functional import minhash
from luthier.functional.minhash import (
    Pair,
    Shingles,
    bands_for,
    candidates,
    clusters,
    shingles,
    signatures,
    similar_pairs,
    similarities,
    text_similarities,
)


def documents(count: int, words: int, vocabulary: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in random.integers(0, vocabulary, words)) for _ in range(count)]


def families(seed: int, count: int = 60) -> list[str]:
    """Texts of 40 words and, after each, three copies of it with 1, 2 and 4 words changed."""
    random = np.random.default_rng(seed)
    texts: list[str] = []
    for text in documents(count, 40, 5000, seed):
        texts.append(text)
        for changes in (1, 2, 4):
            words = text.split()
            for place in random.choice(40, changes, replace=False):
                words[place] = f"x{random.integers(0, 5000)}"
            texts.append(" ".join(words))
    return texts


def jaccard(sets: Shingles, first: int, second: int) -> float:
    return float(similarities(sets, np.array([[first, second]]))[0])


def plain_similarity(first: str, second: str, size: int) -> float:
    sets = []
    for text in (first, second):
        words = text.split()
        sets.append({tuple(words[i : i + size]) for i in range(len(words) - size + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_shingle_sets_are_those_of_scikit_learn(size: int) -> None:
    texts = documents(20, 30, 40, 1)
    counts = CountVectorizer(ngram_range=(size, size), token_pattern=r"\S+").fit_transform(texts).toarray() > 0
    sets = shingles(texts, size)
    for i, j in itertools.combinations(range(20), 2):
        expected = (counts[i] & counts[j]).sum() / (counts[i] | counts[j]).sum()
        assert jaccard(sets, i, j) == pytest.approx(expected, abs=1e-15)


def test_short_and_empty_texts() -> None:
    sets = shingles(["", "one two", "one two", "one two three", " "], 3)
    assert np.diff(sets.starts).tolist() == [0, 1, 1, 1, 0]
    assert sets.of(1).tolist() == sets.of(2).tolist() != sets.of(3).tolist()
    assert jaccard(sets, 0, 4) == 0.0
    assert similar_pairs(["", "", "a"], 0.5, size=2, permutations=32) == []
    assert similar_pairs([], 0.5, size=2, permutations=32) == []


def test_shingles_do_not_cross_texts_and_know_their_order() -> None:
    sets = shingles(["a b", "b a", "c d a b"], 2)
    assert jaccard(sets, 0, 1) == 0.0
    assert jaccard(sets, 0, 2) == pytest.approx(1 / 3)


def test_signatures_estimate_the_similarity_without_bias() -> None:
    texts = families(3, count=30)
    sets = shingles(texts, 2)
    signature = signatures(sets, 1024)
    for first in range(0, len(texts), 4):
        for second in range(first + 1, first + 4):
            true = plain_similarity(texts[first], texts[second], 2)
            estimate = (signature[first] == signature[second]).mean()
            assert abs(estimate - true) < 5 * np.sqrt(true * (1 - true) / 1024) + 1e-12


@pytest.mark.parametrize("permutations", [16, 100, 128, 256])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7, 0.8, 0.95, 1.0])
def test_bands_times_rows_fit_and_reach_the_threshold(threshold: float, permutations: int) -> None:
    bands, rows = bands_for(threshold, permutations)
    assert bands * rows <= permutations
    if rows > 1:
        assert 1 - (1 - threshold**rows) ** bands >= 0.99
    longer = permutations // (rows + 1)
    assert rows == permutations or 1 - (1 - threshold ** (rows + 1)) ** longer < 0.99


def test_candidates_share_a_band_and_no_others_are_given() -> None:
    signature = signatures(shingles(families(5, count=20), 2), 32)
    bands, rows = bands_for(0.6, 32)
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(len(signature)), 2)
        if any(
            (signature[i, b * rows : b * rows + rows] == signature[j, b * rows : b * rows + rows]).all()
            for b in range(bands)
        )
    }
    found = {tuple(pair) for pairs in candidates(signature, 0.6) for pair in pairs.tolist()}
    assert found == expected


@pytest.mark.parametrize("threshold", [0.6, 0.8])
def test_pairs_are_the_true_ones(threshold: float) -> None:
    texts = families(7, count=30)
    true = {
        (i, j): similarity
        for i, j in itertools.combinations(range(len(texts)), 2)
        if (similarity := plain_similarity(texts[i], texts[j], 3)) >= threshold
    }
    found = similar_pairs(texts, threshold, size=3, permutations=128)
    assert found == sorted(found, key=lambda pair: (pair.first, pair.second))
    assert all(true[pair.first, pair.second] == pytest.approx(pair.similarity, abs=1e-15) for pair in found)
    assert len(found) >= 0.98 * len(true) > 25


def test_what_is_found_does_not_depend_on_how_much_is_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*families(9, count=20), "", "one", " ", *["the same seven words stand here often"] * 30]
    whole = similar_pairs(texts, 0.5, size=2, permutations=64)
    assert sum(pair.similarity == 1.0 for pair in whole) >= 30 * 29 // 2
    for name, least in (("_CHUNK", 7), ("_VERIFIED", 1)):
        monkeypatch.setattr(minhash, name, least)
        assert similar_pairs(texts, 0.5, size=2, permutations=64) == whole, name


def test_similarities_of_many_pairs_are_those_of_plain_sets() -> None:
    texts = [*families(13, count=15), "w1"]
    pairs = np.array([(i, j) for i, j in itertools.combinations(range(60), 2)])
    expected = [plain_similarity(texts[i], texts[j], 2) for i, j in pairs.tolist()]
    assert text_similarities(texts, pairs, 2).tolist() == expected
    assert text_similarities(texts, pairs[:0], 2).tolist() == []
    assert text_similarities(["a", "a", "a"], np.array([[0, 1], [1, 2]]), 2).tolist() == [1.0, 1.0]


def test_wanted_leaves_pairs_out() -> None:
    texts = ["a b c d e f", "a b c d e f", "a b c d e f"]
    found = similar_pairs(texts, 0.9, size=2, permutations=32, wanted=lambda first, second: second - first == 1)
    assert [(pair.first, pair.second, pair.similarity) for pair in found] == [(0, 1, 1.0), (1, 2, 1.0)]


def test_clusters_keep_the_first_whatever_the_order() -> None:
    pairs = [Pair(4, 5, 1.0), Pair(2, 4, 1.0), Pair(0, 3, 1.0), Pair(3, 6, 1.0)]
    for order in itertools.permutations(pairs):
        assert clusters(8, order) == [0, 1, 2, 0, 2, 2, 0, 7]


def test_ten_thousand_short_texts_take_seconds() -> None:
    texts = documents(10_000, 20, 3000, 11)
    assert similar_pairs(texts, 0.8, size=3, permutations=128) == []
    assert takes_less_than(4, lambda: similar_pairs(texts, 0.8, size=3, permutations=128))
