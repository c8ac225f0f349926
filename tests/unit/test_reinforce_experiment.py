"""What the experiment on reinforcement learning compares: recipes that hold, another reward as control, the last KL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.reinforce import CLOSING, METHODS, divergence, recipe_of
from luthier.core.recipe import Recipe


@pytest.mark.parametrize("quick", [False, True])
def test_every_method_is_a_recipe_that_holds(quick: bool) -> None:
    for name in METHODS:
        recipe = Recipe.of(recipe_of(name, Path("start"), quick))
        rewards = recipe.phases[0].objective.rewards
        told = [CLOSING in str(reward.model_dump()) for reward in rewards]
        assert told == [name != "control"]


def test_the_divergence_is_that_of_the_last_validation(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    events = [{"event": "validation", "figures": {"kl": value}} for value in (0.5, 2.5)]
    file.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    assert divergence(file) == 2.5
    file.write_text('{"event": "step"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="no validation"):
        divergence(file)
