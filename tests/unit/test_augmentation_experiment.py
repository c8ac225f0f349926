"""What the experiment on augmentation compares: the rows that are drawn, variants, and mixed features."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.augmentation import EACH, TIMES, accuracy, drawn_rows, examples, mixed, varied, ways
from luthier.core.component import build
from luthier.core.contracts import Step

LABELS = [name for name in ("a", "b", "c") for _ in range(40)]


def test_ten_rows_a_class_and_twice_as_many_others() -> None:
    some, others = drawn_rows(LABELS, 1)
    for rows, each in ((some, EACH), (others, EACH * TIMES)):
        assert [[LABELS[row] for row in rows].count(name) for name in "abc"] == [each] * 3
    assert not set(some) & set(others)
    assert drawn_rows(LABELS, 1) == (some, others)
    assert drawn_rows(LABELS, 2)[0] != some


def test_variants_keep_their_class_and_every_way_is_a_step(tmp_path) -> None:
    rows = examples([f"where is the card that came {n}" for n in range(120)], LABELS, [0, 50, 100])
    made = varied(rows, "typos", {}, 1)
    assert [row.target for row in made] == [name for name in "abc" for _ in range(TIMES)]
    for name, options in ways(tmp_path).items():
        assert isinstance(build("steps", {name: options}), Step)


def test_mixed_features_lie_between_two_rows_and_their_classes_share_a_weight_of_one() -> None:
    vectors = np.eye(6, dtype=np.float32)
    between, classes, shares = mixed((vectors, np.arange(6)), 1)
    count = TIMES * 6
    assert between.shape == (2 * count, 6)
    assert np.allclose(shares[:count] + shares[count:], 1)
    for place in range(count):
        wanted = shares[place] * vectors[classes[place]] + shares[count + place] * vectors[classes[count + place]]
        assert np.allclose(between[place], wanted, atol=1e-6)
    assert (between[:count] == between[count:]).all()


def test_weights_are_heard() -> None:
    train = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32), np.array([0, 1, 1])
    test = np.array([[1.0, 0.0]], np.float32), np.array([0])
    assert accuracy(train, test, 10.0, np.array([9.0, 1.0, 1.0])) == 1
    assert accuracy(train, test, 10.0, np.array([1.0, 9.0, 1.0])) == pytest.approx(0)
