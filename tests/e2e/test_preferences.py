"""Pairs, single answers and rankings, from data file to report: a tuned model, a reward model, and it as a judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_runs import THINGS, lm_recipe, write_jsonl

import luthier
from luthier.core.run import read_events


def pairs(count: int = 48) -> list[dict[str, Any]]:
    """The chosen answer is ready, the rejected one is gone."""
    things = [THINGS[number % len(THINGS)] for number in range(count)]
    return [
        {
            "prompt": f"Number {number}: the {thing}?",
            "chosen": f"The {thing} is ready.",
            "rejected": f"The {thing} is gone.",
        }
        for number, thing in enumerate(things)
    ]


def labels(count: int = 48) -> list[dict[str, Any]]:
    return [
        {"prompt": pair["prompt"], "completion": pair[("chosen", "rejected")[number % 2]], "label": number % 2 == 0}
        for number, pair in enumerate(pairs(count))
    ]


def rankings(count: int = 48) -> list[dict[str, Any]]:
    return [
        {
            "prompt": pair["prompt"],
            "responses": [pair["rejected"], pair["chosen"], "No."][: 2 + number % 2],
            "scores": [2, 5, 2][: 2 + number % 2],
        }
        for number, pair in enumerate(pairs(count))
    ]


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if event["event"] == kind]


@pytest.fixture(scope="module")
def judge(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> luthier.pipeline.end_to_end.Run:
    folder = tmp_path_factory.mktemp("judge")
    data = write_jsonl(folder / "pairs.jsonl", pairs())
    recipe = lm_recipe(
        llama_folder, data, objective="reward", adaptation="full", epochs=6, checks=["reward_accuracy", "parity"]
    )
    return luthier.run(recipe, out=folder / "run")


def test_pairs_move_the_policy_and_the_report_tells_how(judge, llama_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "pairs.jsonl", pairs())
    recipe = lm_recipe(
        llama_folder,
        data,
        objective={"dpo": {"beta": 0.5}},
        epochs=6,
        checks=[
            "preferences",
            {"win_rate": {"judge": str(judge.model), "limit": 4}},
            "perplexity",
            "forgetting",
            "parity",
        ],
    )
    recipe["checks"][3] = {"forgetting": {"limit": 8}}
    run = luthier.run(recipe, out=tmp_path / "run")
    assert 0 <= run.value("preferences.accuracy") <= 1
    assert run.value("preferences.reward_accuracy") > 0.9
    assert run.value("preferences.reward_margin") > 1
    assert 0 <= run.value("win_rate.win_rate") <= 1
    assert run.value("parity.max_difference", "merged") < 1e-3
    steps = events(run.folder, "step")
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert steps[0]["figures"]["margin"] == pytest.approx(0, abs=1e-3)
    assert steps[-1]["figures"]["accuracy"] == 1
    assert events(run.folder, "validation")[-1]["figures"]["margin"] > steps[0]["figures"]["margin"]
    page = run.report.read_text(encoding="utf-8")
    assert "tokens chosen" in page
    assert "reward margin" in page or "reward_margin" in page

    # Another beta asks the reference nothing again.
    kept = run.folder / "phases" / "1-sft" / "reference-train.safetensors"
    before = kept.read_bytes()
    assert set(load_file(kept)) == {"belongs", "reference", "rows"}
    luthier.run(recipe, ["phases.0.objective.dpo.beta=0.2", "phases.0.epochs=1", "checks=[]"], out=tmp_path / "run")
    assert kept.read_bytes() == before
    asked = [event["text"] for event in events(run.folder, "note") if "was asked about" in event["text"]]
    assert len(asked) == 2, "train and validation, once each"


def test_a_reward_model_tells_the_better_answer_and_is_one_that_others_load(judge) -> None:
    assert judge.value("reward_accuracy.accuracy") > 0.9
    assert judge.value("parity.max_difference", "reloaded") < 1e-3
    config = json.loads((judge.model / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert list(config["id2label"].values()) == ["reward"]
    from transformers import AutoModelForSequenceClassification

    assert AutoModelForSequenceClassification.from_pretrained(judge.model).num_labels == 1


@pytest.mark.parametrize(
    ("objective", "records", "metric"),
    [("kto", labels(), None), ("reward", labels(), "accuracy"), ("reward", rankings(), "accuracy")],
    ids=["kto", "reward-labels", "reward-rankings"],
)
def test_labels_and_rankings_are_learned(objective, records, metric, llama_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", records)
    checks = ["reward_accuracy"] if metric else []
    recipe = lm_recipe(llama_folder, data, objective=objective, adaptation="full", epochs=6, checks=checks)
    run = luthier.run(recipe, out=tmp_path / "run")
    if metric:
        assert run.value(f"reward_accuracy.{metric}") > 0.9
    else:
        assert events(run.folder, "step")[-1]["figures"]["accuracy"] > 0.9
    assert events(run.folder, "step")[-1]["loss"] < events(run.folder, "step")[0]["loss"]


def test_a_killed_phase_ends_in_the_same_weights(llama_folder: Path, tmp_path: Path) -> None:
    """Stopped in the middle and gone on with: the reference is asked of the weights that the phase began with."""
    data = write_jsonl(tmp_path / "pairs.jsonl", pairs(24))
    recipe = lm_recipe(llama_folder, data, objective="dpo", steps=6, checkpoints={"every": 2})
    whole = luthier.run(recipe, out=tmp_path / "whole", until="train")

    class Stop(Exception):
        pass

    def stop(record: Any) -> None:
        if record["event"] == "checkpoint" and record["step"] == 4:
            raise Stop

    with pytest.raises(Stop):
        luthier.run(recipe, out=tmp_path / "cut", until="train", listeners=[stop])
    (tmp_path / "cut" / "phases" / "1-sft" / "reference-train.safetensors").unlink()
    cut = luthier.run(recipe, out=tmp_path / "cut", until="train")
    result = Path("phases/1-sft/result/adapter_model.safetensors")
    assert (cut.folder / result).read_bytes() == (whole.folder / result).read_bytes()
    assert any("goes on after step 4" in event["text"] for event in events(cut.folder, "note"))
