"""Agreement against published examples, scikit-learn, and each other."""

from __future__ import annotations

import math
import random

import pytest

from luthier.functional.agreement import cohen, fleiss, krippendorff

# Krippendorff 2011, section D: 4 observers, 12 units, missing values; alpha for nominal data is 0.743.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
# Fleiss 1971, as worked in many places: 10 subjects, 14 raters, 5 categories; kappa is 0.210.
COUNTS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip


def test_alpha_of_the_published_example() -> None:
    units = [[row[unit] for row in OBSERVERS if row[unit] is not None] for unit in range(12)]
    assert krippendorff(units) == pytest.approx(0.743, abs=5e-4)


def test_kappa_of_the_published_example() -> None:
    units = [[category for category, count in enumerate(row) for _ in range(count)] for row in COUNTS]
    assert fleiss(units) == pytest.approx(0.210, abs=5e-4)


def test_cohen_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = random.Random(1)
    for _ in range(20):
        first = [draw.choice("abc") for _ in range(30)]
        second = [value if draw.random() < 0.6 else draw.choice("abc") for value in first]
        assert cohen(first, second) == pytest.approx(metrics.cohen_kappa_score(first, second), abs=1e-12)


def test_full_agreement_chance_and_nothing_to_tell() -> None:
    assert cohen("abab", "abab") == fleiss(["aa", "bb"]) == krippendorff(["aa", "bb"]) == 1
    assert cohen("aabb", "abab") == 0
    assert cohen("ab", "ba") == -1
    for nothing in (cohen("aa", "aa"), fleiss(["aa", "aa"]), krippendorff(["aa", "aa"]), krippendorff(["a", "b"])):
        assert math.isnan(nothing)


def test_units_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2 values are no pairs"):
        cohen("abc", "ab")
    for units in ([], ["a", "b"], ["ab", "abc"]):
        with pytest.raises(ValueError, match="values: two or more are needed"):
            fleiss(units)
