"""The model of wrong labels against probabilities worked by hand, planted errors, and cleanlab."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.functional.label_noise import label_errors, out_of_sample, stratified_folds, true_chances


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


def found(labels: np.ndarray, chances: np.ndarray) -> np.ndarray:
    return label_errors(labels, true_chances(labels, chances))[0]


def test_true_chances_are_those_of_the_model_by_hand() -> None:
    # Two classes, calibrated probabilities, and so many rows that the prior counts for nothing: a quarter of each class
    # is labeled as the other, so a row of which the classifier is 90 % sure and whose label contradicts it is right
    # with 0.1 * 0.75 / (0.1 * 0.75 + 0.9 * 0.25) = 1/4.
    draw = np.random.default_rng(1)
    sure = draw.random(100_000)
    true = (draw.random(100_000) < sure).astype(np.int64)
    labels = np.where(draw.random(100_000) < 0.25, 1 - true, true)
    posterior = true_chances(labels, np.stack([1 - sure, sure], axis=1))
    assert posterior[(np.abs(sure - 0.9) < 0.01) & (labels == 0), 0].mean() == pytest.approx(0.25, abs=0.03)
    assert posterior[(np.abs(sure - 0.1) < 0.01) & (labels == 1), 1].mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(posterior.sum(axis=1), 1)


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_a_classifier_that_doubts_too_much_or_too_little_is_put_right(power: float) -> None:
    labels, chances, wrong = noisy(3, 4000)
    blunt = chances**power / (chances**power).sum(axis=1, keepdims=True)
    assert (found(labels, blunt) != found(labels, chances)).mean() < 0.003
    assert (found(labels, chances) == wrong).mean() > 0.97


@pytest.mark.parametrize("seed", range(4))
def test_on_the_same_probabilities_no_less_is_found_than_by_cleanlab(seed: int) -> None:
    cleanlab = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed: pip install 'luthier[bench]'")
    labels, chances, wrong = noisy(seed, 1500, 20)
    ours, theirs = found(labels, chances), cleanlab.find_label_issues(labels, chances, n_jobs=1)
    assert ours[wrong].mean() >= theirs[wrong].mean()
    assert wrong[ours].mean() >= wrong[theirs].mean()


def test_a_habit_of_confusing_two_classes_is_learned() -> None:
    draw = np.random.default_rng(4)
    true = draw.integers(0, 4, 4000)
    labels = np.where((true == 0) & (draw.random(4000) < 0.3), 1, true)
    logits = draw.normal(0, 1, (4000, 4))
    logits[np.arange(4000), true] += 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = found(labels, chances)
    # With even noise in place of what is learned: 65 %, 80 % and 87 %.
    assert wrong[labels != true].mean() > 0.82
    assert (labels != true)[wrong].mean() > 0.82
    assert (labels[wrong] == 1).mean() > 0.95


def test_of_a_label_one_row_is_always_left() -> None:
    labels = np.array([0] * 50 + [1] * 2)
    true = np.full((52, 2), [0.9, 0.1])
    true[51] = [0.8, 0.2]
    wrong, likely = label_errors(labels, true)
    assert np.flatnonzero(wrong).tolist() == [50]
    assert likely.tolist() == [1] * 50 + [0] * 2


def test_a_smaller_probability_finds_more() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    true = np.array([[0.9, 0.06, 0.04], [0.7, 0.1, 0.2], [0.45, 0.3, 0.25], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    assert label_errors(labels, true)[0].tolist() == [False, False, True, False, True]
    wrong, likely = label_errors(labels, true, 0.3)
    assert wrong.tolist() == [False, True, True, False, True]
    assert likely.tolist() == [1, 2, 1, 0, 0]


def test_folds_share_out_every_class() -> None:
    labels = np.repeat([0, 1, 2], [10, 5, 2])
    folds = stratified_folds(labels, np.random.default_rng(1).random(17).tolist(), 5)
    assert np.bincount(folds[labels == 0]).tolist() == [2] * 5
    assert sorted(folds[labels == 1]) == list(range(5))
    assert len(set(folds[labels == 2])) == 2


def test_labels_that_everything_speaks_for_are_left_alone() -> None:
    labels = np.arange(40) % 4
    chances = np.full((40, 4), 0.01)
    chances[np.arange(40), labels] = 0.97
    assert not found(labels, chances).any()


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
    assert (after[:30].argmax(axis=1) != changed[:30]).all()
