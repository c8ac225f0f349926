"""The experiment on classes' names: rounds that a recipe takes, and a control that knows the words but not whose."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from experiments.zero_shot import dealt, overrides
from luthier.core.embedded import embedded_recipes
from luthier.core.recipe_file import load_recipe


def test_the_control_deals_the_same_words_to_other_classes() -> None:
    names = ["card_arrival", "lost_card", "top_up", "refund", "exchange_rate", "pin_blocked"]
    found = dealt(names, 1)
    assert list(found) == names
    assert sorted(found.values()) == sorted(name.replace("_", " ") for name in names)
    assert sum(found[name] == name.replace("_", " ") for name in names) < len(names)


def test_a_round_asks_the_run_before_it(tmp_path: Path) -> None:
    teacher: Any = SimpleNamespace(folder=tmp_path / "names")
    assert "zero-shot" in embedded_recipes()
    recipe = load_recipe("zero-shot", [*overrides(teacher)])
    (phase,) = recipe.phases
    assert phase.objective.component_name() == "self_train"
    assert phase.adaptation.component_name() == "classic"
    assert phase.objective.sources() == {"teacher": str(teacher.folder)}
    assert not [problem for problem in recipe.problems() if "classic" in str(problem)]
