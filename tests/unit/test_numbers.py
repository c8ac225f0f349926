"""Regression and ordered classes: losses by hand, checks against scikit-learn, and a run in the data's own units."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import class_recipe, write_jsonl

import luthier
from luthier.checks.levels import Levels
from luthier.checks.regression import Regression
from luthier.core.component import build
from luthier.core.contracts import Batch
from luthier.core.errors import DataError, RecipeError
from luthier.core.evidence import CheckContext
from luthier.core.example import Example, Origin
from luthier.data.encode import Encoding
from luthier.functional.packing import pack
from luthier.models.roles import Models


def texts(*targets: Any) -> list[Example]:
    return [Example(f"t{n}", {"text": f"text {n}"}, Origin("t", n), target) for n, target in enumerate(targets)]


class Says:
    """A role whose head says these numbers."""

    def __init__(self, *rows: list[float]) -> None:
        self.logits = torch.tensor(rows, dtype=torch.float64, requires_grad=True)

    def class_logits(self, batch: Batch) -> torch.Tensor:
        return self.logits


def losses(objective: Any, examples: list[Example], tokenizer: Any, role: Any) -> list[float]:
    encoding = Encoding(tokenizer, max_length=32, facts=objective.survey(examples))
    rows = [row for example in examples for row in objective.encode(example, encoding)]
    (term,) = objective.loss(Models(role), pack(rows))
    return term.totals.tolist()


def test_errors_are_in_standard_deviations(tokenizer):
    """Of 1, 3 and 5 the mean is 3 and the deviation sqrt(8/3)."""
    examples, spread = texts(1.0, "3", 5.0), np.sqrt(8 / 3)
    wanted = np.array([-2 / spread, 0, 2 / spread])
    said = np.array([0.5, 0.5, 0.0])
    for error, by_hand in (
        ("squared", (said - wanted) ** 2),
        ("absolute", np.abs(said - wanted)),
        ("huber", np.where(np.abs(said - wanted) < 1, (said - wanted) ** 2 / 2, np.abs(said - wanted) - 0.5)),
    ):
        objective = build("objectives", {"score": {"error": error}})
        assert losses(objective, examples, tokenizer, Says(*said[:, None].tolist())) == pytest.approx(by_hand.tolist())


def test_an_order_counts_how_far_an_error_is_off(tokenizer):
    """Chances 0.7, 0.2, 0.1: for the lowest level 0.3^2 + 0.1^2, for the highest 0.7^2 + 0.9^2."""
    objective: Any = build("objectives", {"ordinal": {"levels": [1, 2, 3]}})
    role = Says(*[np.log([0.7, 0.2, 0.1]).tolist()] * 3)
    found = losses(objective, texts("1", 2.0, "3"), tokenizer, role)
    assert found == pytest.approx([0.09 + 0.01, 0.49 + 0.01, 0.49 + 0.81])


def test_rows_without_a_number_or_a_level_are_refused():
    score, ordinal = build("objectives", "score"), build("objectives", {"ordinal": {"levels": ["low", "high"]}})
    for objective, rows, told in (
        (score, texts(1.0, "good"), "'t1' has no number"),
        (score, texts(1.0, 1.0), "all have the same number"),
        (score, texts(0.1, 0.1, 0.1), "all have the same number"),  # their mean is rounded, and not 0.1
        (ordinal, texts("low", "hgh"), "the class 'hgh' is none of the levels"),
        (ordinal, texts(None), "has no class"),
    ):
        with pytest.raises(DataError, match=told):
            objective.survey(rows)  # type: ignore[attr-defined]
    for levels, told in ((["one"], "at least 2"), (["low", "high", "low"], "the level 'low' is named twice")):
        with pytest.raises(RecipeError, match=told):
            build("objectives", {"ordinal": {"levels": levels}})


class Subject:
    """Gives these numbers, and these chances."""

    about = name = "made up"
    task = "sequence_score"

    def __init__(self, numbers: Any) -> None:
        self.numbers = np.asarray(numbers)

    def rewards(self, examples: Any) -> Any:
        return [np.array([value]) for value in self.numbers]

    def classify(self, examples: Any) -> Any:
        return np.log(self.numbers)


def measured(check: Any, subject: Subject, rows: list[Example], facts: dict[str, Any]) -> dict[str, float]:
    context = CheckContext(facts, 1, lambda path: [])
    scores = check.measure(subject, check.examples(rows, context), context)
    return {m.name: m.aggregate(scores.values[m.source or m.name]) for m in check.measures(facts)}


def test_regression_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(1)
    wanted, said = draw.normal(size=40), draw.normal(size=40)
    facts = {"target": {"mean": 2.0, "spread": 0.5}}
    found = measured(Regression(), Subject(said), texts(*wanted.tolist()), facts)
    said = said * 0.5 + 2
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(wanted, said))
    assert found["rmse"] == pytest.approx(np.sqrt(metrics.mean_squared_error(wanted, said)))
    assert found["r2"] == pytest.approx(metrics.r2_score(wanted, said))


def test_levels_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(2)
    wanted, chances = draw.integers(0, 4, 50), draw.dirichlet(np.ones(4), 50)
    facts = {"classes": ["a", "b", "c", "d"]}
    found = measured(Levels(), Subject(chances), texts(*["abcd"[level] for level in wanted]), facts)
    said = (chances.cumsum(1) < 0.5).sum(1)
    assert found["mae"] == pytest.approx(np.abs(said - wanted).mean())
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(wanted, said, weights="quadratic"))


def test_a_run_gives_numbers_in_the_datas_units(bert_folder, tmp_path):
    from luthier.cli.talk import named

    words = {"good": 140.0, "odd": 120.0, "bad": 100.5}
    rows = [{"text": f"item {n} is {word} indeed", "score": words[word]} for n in range(20) for word in words]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    changes = {"objective": "score", "checks": ["regression"], "optimizer": {"adamw": {"lr": 3e-3}}, "epochs": 4}
    run = luthier.run(class_recipe(bert_folder, data, **changes), out=tmp_path / "run")
    assert run.value("regression.mae") < 15
    told = json.loads((run.model / "config.json").read_text())["target"]
    assert told["mean"] == pytest.approx(120, abs=6)
    assert 80 < float(named(run.folder, "item 3 is good indeed")) < 170
