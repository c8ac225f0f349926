"""What the experiment on unlabeled rows compares: recipes that hold, as many steps for each, labels taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.semi_supervised import METHODS, STEPS, begun, overrides, written
from luthier.core.recipe_file import load_recipe
from luthier.core.unlabeled import Unlabeled
from luthier.objectives.self_train import SelfTrain


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_the_recipe_with_as_many_steps(method: str) -> None:
    start = Path("runs/labeled")
    recipe = load_recipe("few-labels", overrides(method, start, quick=False))
    assert recipe.model == str(start)
    assert sum(phase.steps or 0 for phase in recipe.phases) == STEPS
    learns = [isinstance(phase.objective, Unlabeled) for phase in recipe.phases]
    assert learns == [method != "labeled rows alone"] * len(recipe.phases)
    rounds = [phase.objective for phase in recipe.phases if isinstance(phase.objective, SelfTrain)]
    assert [one.teacher for one in rounds] == ([str(start), "then"] if method == "self_train" else [])


def test_all_begin_as_the_recipe_s_first_phase() -> None:
    (phase,) = load_recipe("few-labels", begun(quick=False)).phases
    assert phase.objective.component_name() == "classify"
    assert not phase.steps


def test_few_rows_of_each_class_keep_their_label(tmp_path: Path) -> None:
    rows = [(f"text {number}", f"class {number % 4}") for number in range(40)]
    found = []
    for seed in (1, 2):
        train, test = (
            Path(given.partition("=")[2]) for given in written(tmp_path / str(seed), rows, rows[:8], seed, 3)
        )
        records = [json.loads(line) for line in train.read_text(encoding="utf-8").splitlines()]
        assert [record["text"] for record in records] == [text for text, _ in rows]
        kept = [record["label"] for record in records if record["label"]]
        assert sorted(kept) == sorted([f"class {number}" for number in range(4)] * 3)
        assert all(json.loads(line)["label"] for line in test.read_text(encoding="utf-8").splitlines())
        found.append(records)
    assert found[0] != found[1]
