"""Confident learning against cleanlab and a joint worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.functional.confident import confident_joint, label_errors, out_of_sample


def noisy(seed: int, rows: int = 400, count: int = 5, share: float = 0.15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of which a share is wrong, probabilities of a fair classifier, and which labels are wrong."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, count, rows)
    wrong = draw.random(rows) < share
    labels = np.where(wrong, (true + draw.integers(1, count, rows)) % count, true)
    logits = draw.normal(0, 1, (rows, count))
    logits[np.arange(rows), true] += 3
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, chances, wrong


def test_a_joint_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    # Means: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6, class 1 0.75. Sure: rows 0, 1 for 0; rows 2, 4 for 1; row 3 for none.
    # Counts [[2, 1], [0, 1]], scaled to 3 and 2 rows.
    np.testing.assert_allclose(confident_joint(labels, chances), [[2, 1], [0, 2]])
    wrong, likely = label_errors(labels, chances)
    assert wrong.tolist() == [False, False, True, False, False]
    assert likely.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("seed", range(6))
def test_joint_and_errors_are_those_of_cleanlab(seed: int) -> None:
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed: pip install 'luthier[bench]'")
    from cleanlab.filter import find_label_issues

    labels, chances, wrong = noisy(seed)
    np.testing.assert_allclose(
        np.round(confident_joint(labels, chances)), count.compute_confident_joint(labels, chances), atol=1
    )
    ours, _ = label_errors(labels, chances)
    theirs = find_label_issues(labels, chances, filter_by="prune_by_noise_rate")
    assert (ours != theirs).sum() <= 2  # cleanlab rounds whole rows of its joint so that they keep their sums
    assert ours[wrong].mean() > 0.7


def test_labels_that_everything_speaks_for_are_left_alone() -> None:
    labels = np.arange(40) % 4
    chances = np.full((40, 4), 0.01)
    chances[np.arange(40), labels] = 0.97
    assert not label_errors(labels, chances)[0].any()


def test_a_rows_own_label_has_no_part_in_its_probabilities() -> None:
    draw = np.random.default_rng(3)
    centers = draw.normal(0, 1, (3, 16))
    labels = np.arange(90) % 3
    vectors = (centers[labels] + draw.normal(0, 0.1, (90, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folds = np.arange(90) // 30
    before = out_of_sample(vectors, labels, folds, epochs=10, seed=1)
    assert (before.argmax(axis=1) == labels).all()
    changed = labels.copy()
    changed[:30] = (changed[:30] + 1) % 3
    after = out_of_sample(vectors, changed, folds, epochs=10, seed=1)
    np.testing.assert_array_equal(after[:30], before[:30])
    assert label_errors(changed, after)[0][:30].any()
