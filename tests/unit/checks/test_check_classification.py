"""Classification's numbers against scikit-learn, on predictions made up here."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from luthier.checks.classification import Classification
from luthier.core.errors import DataError
from luthier.core.evidence import CheckContext
from luthier.core.example import Example, Origin
from luthier.evaluate.findings import findings

CLASSES = ["bow", "bridge", "neck", "strings", "never"]


class Made:
    """A subject whose class log-probabilities are given."""

    name = "tuned"
    about = "made up"

    def __init__(self, logps: np.ndarray) -> None:
        self.logps_of_classes = logps

    def classify(self, examples):
        assert len(examples) == len(self.logps_of_classes)
        return self.logps_of_classes


def examples(targets) -> list[Example]:
    return [
        Example(f"r{i}", {"text": f"text {i}"}, Origin("t.csv", i), target=target) for i, target in enumerate(targets)
    ]


def context(several: bool) -> CheckContext:
    return CheckContext({"classes": CLASSES, "multi_label": several}, 1, lambda path: ())


def made_up(rows: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gold indices (the last class never occurs) and log-probabilities that are right about half of the time."""
    generator = np.random.default_rng(seed)
    gold = generator.choice(4, size=rows, p=[0.5, 0.3, 0.15, 0.05])
    scores = generator.normal(size=(rows, 5)) + 1.5 * np.eye(5)[gold]
    return gold, scores - np.log(np.exp(scores).sum(1, keepdims=True))


def values(found, subject="tuned"):
    return {(f.metric, f.group): f.value for f in found if f.subject == subject}


def test_one_class_a_row_equals_scikit_learn():
    gold, logps = made_up()
    check, items = Classification(), examples([CLASSES[g] for g in gold])
    scores = check.measure(Made(logps), items, context(False))
    found = values(findings({"tuned": scores}, check.measures(context(False).facts), "classification", 1, resamples=50))
    given = logps.argmax(1)
    assert found["accuracy", None] == pytest.approx(metrics.accuracy_score(gold, given), rel=1e-12)
    assert found["macro_f1", None] == pytest.approx(metrics.f1_score(gold, given, average="macro"), rel=1e-12)
    precision, recall, _, _ = metrics.precision_recall_fscore_support(
        gold, given, labels=range(5), zero_division=np.nan
    )
    for number, name in enumerate(CLASSES):
        assert found["precision", name] == pytest.approx(precision[number], rel=1e-12, nan_ok=True)
        assert found["recall", name] == pytest.approx(recall[number], rel=1e-12, nan_ok=True)
    assert np.isnan(found["recall", "never"])
    assert scores.confusion is not None
    assert np.array(scores.confusion.matrix).tolist() == metrics.confusion_matrix(gold, given, labels=range(5)).tolist()
    share = np.bincount(gold).max() / len(gold)
    assert f"the most frequent class, bow, has {share:.1%} of the rows" in scores.note


def test_macro_f1_leaves_out_only_classes_that_occur_nowhere():
    # gold a a b, given a b b: F1 of bow 2/3, of bridge 2/3; the other classes are nowhere.
    check, facts = Classification(per_class=False), context(False).facts
    logps = np.log(np.eye(5)[[0, 1, 1]] * 0.9 + 0.02)
    scores = check.measure(Made(logps), examples(["bow", "bow", "bridge"]), context(False))
    assert values(findings({"tuned": scores}, check.measures(facts), "c", 1))["macro_f1", None] == pytest.approx(2 / 3)
    # One more row of "neck" taken for "strings": two classes join with F1 0.
    logps = np.log(np.eye(5)[[0, 1, 1, 3]] * 0.9 + 0.02)
    scores = check.measure(Made(logps), examples(["bow", "bow", "bridge", "neck"]), context(False))
    assert values(findings({"tuned": scores}, check.measures(facts), "c", 1))["macro_f1", None] == pytest.approx(1 / 3)


def test_several_labels_equal_scikit_learn():
    generator = np.random.default_rng(5)
    gold = generator.random((150, 5)) < [0.5, 0.3, 0.2, 0.1, 0.0]
    logps = np.log(np.clip(generator.random((150, 5)) * 0.6 + 0.4 * gold, 1e-9, 1))
    check = Classification()
    items = examples([tuple(np.array(CLASSES)[row].tolist()) for row in gold])
    scores = check.measure(Made(logps), items, context(True))
    found = values(findings({"tuned": scores}, check.measures(context(True).facts), "c", 1, resamples=50))
    given = np.exp(logps) >= 0.5
    assert found["micro_f1", None] == pytest.approx(metrics.f1_score(gold, given, average="micro"), rel=1e-12)
    there = np.flatnonzero((gold | given).any(0))
    expected = metrics.f1_score(gold, given, average="macro", labels=there, zero_division=0)
    assert found["macro_f1", None] == pytest.approx(expected, rel=1e-12)
    assert found["subset_accuracy", None] == pytest.approx(metrics.accuracy_score(gold, given), rel=1e-12)
    assert found["recall", "bow"] == pytest.approx(metrics.recall_score(gold[:, 0], given[:, 0]), rel=1e-12)
    assert scores.confusion is None


def test_base_against_tuned_is_tested_for_accuracy_and_not_for_each_class():
    gold, base = made_up(seed=1)
    tuned = base + 1.0 * np.eye(5)[gold]
    check, items = Classification(), examples([CLASSES[g] for g in gold])
    scores = {
        "base": check.measure(Made(base), items, context(False)),
        "tuned": check.measure(Made(tuned), items, context(False)),
    }
    changes = [f for f in findings(scores, check.measures(context(False).facts), "c", 1) if f.subject == "change"]
    assert [f.metric for f in changes] == ["accuracy", "macro_f1"]
    assert "McNemar" in changes[0].note
    assert changes[0].low > 0
    assert changes[1].note == "paired bootstrap"


def test_an_unknown_class_is_refused_with_the_nearest():
    with pytest.raises(DataError, match="such as 'bridge'"):
        Classification().measure(Made(np.zeros((1, 5))), examples(["bridges"]), context(False))


def test_no_items_are_refused():
    with pytest.raises(DataError, match="no test items"):
        Classification().examples([], context(False))
