"""Spearman's correlation and retrieval against scipy, sentence-transformers and numbers worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from luthier.checks.retrieval import Retrieval
from luthier.checks.similarity import Similarity
from luthier.core.errors import DataError
from luthier.core.evidence import CheckContext
from luthier.core.example import Example, Origin
from luthier.functional.retrieval import found_at, rank_correlation

ANGLES = {"north": 0.0, "north too": 0.1, "east": 1.5, "east too": 1.65, "between": 0.9, "far": 3.0}


class Compass:
    """Texts as directions in the plane."""

    name = about = "compass"
    task = "features"

    def embed(self, texts: Any) -> Any:
        return np.array([[3 * math.cos(ANGLES[text]), 3 * math.sin(ANGLES[text])] for text in texts])


def context() -> CheckContext:
    return CheckContext({}, 1, lambda path: [])


def pair(number: int, a: str, b: str, score: float | None = None, **more: str) -> Example:
    return Example(f"p{number}", {"a": a, "b": b, **more}, Origin("p", number), score)


def means(check: Any, rows: list[Example]) -> dict[str, float]:
    scores = check.measure(Compass(), check.examples(rows, context()), context())
    return {m.name: m.aggregate(scores.values[m.source or m.name]) for m in check.measures({})}


def test_rank_correlation_is_scipys_with_ties():
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(4)
    pairs = np.stack([draw.normal(size=60), draw.integers(0, 6, 60).astype(float)], axis=1)
    assert rank_correlation(pairs) == pytest.approx(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
    assert math.isnan(rank_correlation(np.ones((4, 2))))


def test_metrics_are_sentence_transformers():
    name = "sentence_transformers.sentence_transformer.evaluation"
    evaluator = pytest.importorskip(name).InformationRetrievalEvaluator
    draw = np.random.default_rng(5)
    near = draw.normal(size=(12, 30))
    right = draw.random((12, 30)) < 0.15
    right[:, 0] |= ~right.any(1)
    found = found_at(near, right, (1, 5))
    peer = evaluator(
        queries={f"q{row}": "" for row in range(12)},
        corpus={f"c{column}": "" for column in range(30)},
        relevant_docs={f"q{row}": {f"c{column}" for column in np.flatnonzero(right[row])} for row in range(12)},
        mrr_at_k=[30],
        ndcg_at_k=[10],
        accuracy_at_k=[1],
        precision_recall_at_k=[1, 5],
    )
    results = [[{"corpus_id": f"c{column}", "score": score} for column, score in enumerate(row)] for row in near]
    theirs = peer.compute_metrics(results)
    assert found["recall_5"].mean() == pytest.approx(theirs["recall@k"][5])
    assert found["precision_1"].mean() == pytest.approx(theirs["precision@k"][1])
    assert found["mrr"].mean() == pytest.approx(theirs["mrr@k"][30])
    assert found["ndcg_10"].mean() == pytest.approx(theirs["ndcg@k"][10])


def test_a_model_that_says_the_same_of_all_finds_nothing():
    found = found_at(np.zeros((1, 4)), np.array([[True, False, False, False]]), (1, 3))
    assert {name: float(value[0]) for name, value in found.items() if name != "ndcg_10"} == {
        "recall_1": 0.0,
        "recall_3": 0.0,
        "precision_1": 0.0,
        "mrr": 0.25,
    }
    assert float(found["ndcg_10"][0]) == pytest.approx(1 / math.log2(5))


def test_similarity_orders_pairs_as_people_do():
    rows = [pair(1, "north", "north too", 4.8), pair(2, "north", "between", 3.0), pair(3, "east", "north", 0.5)]
    assert means(Similarity(), rows) == {"spearman": pytest.approx(1.0)}
    rows[0], rows[2] = pair(1, "north", "north too", 0.5), pair(3, "east", "north", 4.8)
    assert means(Similarity(), rows) == {"spearman": pytest.approx(-1.0)}
    with pytest.raises(DataError, match="none of the 1 rows is a pair with a number"):
        Similarity().examples([pair(1, "north", "east")], context())


def test_pairs_look_for_their_own_among_all():
    """The first's own comes behind another's; a question asked twice has two right answers; negatives are searched."""
    rows = [
        pair(1, "north", "between"),
        pair(2, "north too", "north too"),
        pair(3, "east", "east too"),
        pair(4, "east", "between", negative="far"),
    ]
    found = means(Retrieval(cuts=(1, 2)), rows)
    assert found["precision_1"] == pytest.approx(3 / 4)
    assert found["recall_1"] == pytest.approx((0 + 1 + 0.5 + 0.5) / 4)
    assert found["recall_2"] == pytest.approx(1.0)
    assert found["mrr"] == pytest.approx((1 / 2 + 1 + 1 + 1) / 4)


def test_a_question_that_is_also_an_answer_does_not_find_itself():
    """Pairs both ways, as paraphrases stand in files; one whose own is itself finds it."""
    ways = [("north", "north too"), ("north too", "north"), ("east", "east too"), ("east too", "east"), ("far", "far")]
    found = means(Retrieval(cuts=(1,)), [pair(number, *texts) for number, texts in enumerate(ways)])
    assert found == dict.fromkeys(("recall_1", "precision_1", "mrr", "ndcg_10"), 1.0)


def test_texts_look_for_others_of_their_class_and_never_find_themselves():
    named = {"north": "n", "north too": "n", "east": "e", "east too": "e", "between": "n", "far": "f"}
    rows = [Example(text, {"text": text}, Origin("t", 1), label) for text, label in named.items()]
    check = Retrieval(cuts=(2,))
    scores = check.measure(Compass(), check.examples(rows, context()), context())
    assert "far" not in scores.rows, "it is alone in its class"
    assert dict(zip(scores.rows, scores.values["precision_1"][:, 0], strict=True)) == {
        "north": 1.0,
        "north too": 1.0,
        "east": 1.0,
        "east too": 1.0,
        "between": 0.0,
    }
    assert scores.values["recall_2"][:, 0].tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    with pytest.raises(DataError, match="no two are of one class"):
        check.examples(rows[:1] + rows[2:3], context())
