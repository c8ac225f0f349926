"""Three phases in one recipe: the reward model that PPO asks is the phase before it; killed and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_runs import THINGS, chat_records, lm_recipe, write_jsonl

import luthier
from luthier.core.errors import RecipeError
from luthier.core.recipe import Recipe
from luthier.core.run import read_events
from luthier.data.template import plain_template
from luthier.plan.plan import plan


def pairs(count: int) -> list[dict[str, Any]]:
    """The chosen answer is ready, the rejected one is gone."""
    return [
        {"prompt": f"Number {number}: the {thing}?", "chosen": f"The {thing} is ready.", "rejected": "It is gone."}
        for number, thing in enumerate(THINGS[number % len(THINGS)] for number in range(count))
    ]


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if event["event"] == kind]


def rlhf(model: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """Two steps of tuning, six of a reward model, and three rollouts of PPO with two steps each."""
    chats = write_jsonl(folder / "chats.jsonl", chat_records(24))
    choices = write_jsonl(folder / "pairs.jsonl", pairs(24))
    recipe = lm_recipe(model, chats, steps=2, adaptation="full")
    judged = {"name": "reward", "objective": "reward", "data": {"train": str(choices)}, "steps": 6}
    ppo = {"rewards": [{"model": {"source": "reward"}}], "max_new_tokens": 6, "kl_target": 1.0, "passes": 2}
    recipe["phases"] += [
        {**recipe["phases"][0], **judged},
        {
            **recipe["phases"][0],
            "name": "ppo",
            "from": "sft",
            "objective": {"ppo": {**ppo, **changes}},
            "steps": 6,
            "per_step": {"rows": 3},
            "checkpoints": {"every": 2},
            "watch": {"rows": 2},
        },
    ]
    return recipe


def test_a_recipe_of_three_phases_is_planned_run_killed_and_gone_on_with(llama_folder: Path, tmp_path: Path) -> None:
    recipe = rlhf(llama_folder, tmp_path)
    assert [phase.steps for phase in plan(recipe).phases] == [2, 6, 6]
    recipe |= {"checks": ["parity"], "chat_template": "plain"}
    whole = luthier.run(recipe, out=tmp_path / "whole")
    rollouts = events(whole.folder, "rollout")
    assert len(rollouts) == 3
    first, last = rollouts[0]["figures"], rollouts[-1]["figures"]
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert (first["kl_coefficient"], first["explained_variance"]) == (0.05, 0)
    assert last["kl_coefficient"] != 0.05
    assert {"ratio", "clipped", "sampler_gap", "entropy"} <= events(whole.folder, "step")[-1]["figures"].keys()
    page = whole.report.read_text(encoding="utf-8")
    assert "explained variance" in page or "explained_variance" in page
    weights = load_file(whole.folder / "phases/3-ppo/result/trained.safetensors")
    assert not any("objective" in name for name in weights), "the value head is not part of the model"
    assert whole.value("parity.max_difference", "reloaded") < 1e-3

    # The judge reads as it learned to read, and so does whoever loads the result.
    written = [
        (whole.folder / place / "chat_template.jinja").read_text() for place in ("phases/2-reward/merged", "model")
    ]
    assert written == [plain_template(), plain_template()]

    class Stop(Exception):
        pass

    def stop(record: Any) -> None:
        if (record["event"], record.get("phase"), record.get("step")) == ("checkpoint", "ppo", 4):
            raise Stop

    with pytest.raises(Stop):
        luthier.run(recipe, out=tmp_path / "cut", until="train", listeners=[stop])
    cut = luthier.run(recipe, out=tmp_path / "cut", until="train")
    result = Path("phases/3-ppo/result/trained.safetensors")
    assert (cut.folder / result).read_bytes() == (whole.folder / result).read_bytes()
    assert events(cut.folder, "rollout")[-1]["figures"] == last

    # Another reward model teaches anew, though the policy begins with the same weights and prompts.
    told = len(events(cut.folder, "rollout"))
    other = luthier.run(recipe, ["phases.1.steps=3"], out=tmp_path / "cut", until="train")
    assert len(events(other.folder, "rollout")) == told + 3
    assert (other.folder / result).read_bytes() != (whole.folder / result).read_bytes()


@pytest.mark.parametrize(("source", "words"), [("ppo", "does not come before it"), ("sft", "trains no reward model")])
def test_a_phase_that_cannot_judge_is_refused(source: str, words: str, tmp_path: Path) -> None:
    recipe = rlhf(Path("embedded:nano"), tmp_path, rewards=[{"model": {"source": source}}])
    with pytest.raises(RecipeError) as refused:
        Recipe.of(recipe)
    (problem,) = refused.value.problems
    assert problem.where == "phases.2.objective.rewards.0"
    assert words in problem.found


def test_a_language_model_does_not_follow_a_reward_model(tmp_path: Path) -> None:
    """Named as the start, the first phase is one; the phase before has no output layer any more."""
    recipe = rlhf(Path("embedded:nano"), tmp_path)
    Recipe.of(recipe)
    del recipe["phases"][2]["from"]
    with pytest.raises(RecipeError, match="the output layer is gone") as refused:
        Recipe.of(recipe)
    assert refused.value.problems[0].remedy == "from: sft"
