"""What the experiment on unlabeled rows compares: recipes that hold, as many steps for each, labels taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.semi_supervised import METHODS, STEPS, overrides, written
from luthier.core.recipe_file import load_recipe
from luthier.core.unlabeled import Unlabeled


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_the_recipe_with_as_many_steps(method: str) -> None:
    recipe = load_recipe("few-labels", overrides(method, quick=False))
    first, *later = recipe.phases
    assert first.objective.component_name() == "classify"
    assert sum(phase.steps or 0 for phase in later) == STEPS
    learns = [isinstance(phase.objective, Unlabeled) for phase in later]
    assert learns == [method != "labeled rows alone"] * len(later)


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
