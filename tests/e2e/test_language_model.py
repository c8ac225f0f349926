"""Chat data with LoRA, from the data file to the report: what lies in the folder, what is kept, what is done again."""

from __future__ import annotations

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from small_runs import chat_records, lm_recipe, write_jsonl

import luthier
from luthier.core.files import sha256_of
from luthier.core.run import read_events
from luthier.pipeline.end_to_end import Run

CHECKS = [{"text_match": {"limit": 4}}, "perplexity", {"forgetting": {"limit": 6}}, {"parity": {"rows": 3}}]


@pytest.fixture(scope="module")
def made(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Run]:
    place = tmp_path_factory.mktemp("chat")
    data = write_jsonl(place / "chat.jsonl", chat_records())
    recipe = lm_recipe(
        llama_folder,
        data,
        checks=CHECKS,
        gates=["perplexity.perplexity.change.high < 0", "parity.max_difference.reloaded <= 1e-5"],
        license="apache-2.0",
        trackers=["tensorboard"],
    )
    return recipe, luthier.run(recipe, out=place / "run")


def files(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def last_stages(folder: Path) -> dict[str, str]:
    """The state of each stage in the newest part of the log."""
    events = [event for event in read_events(folder / "events.jsonl") if event["event"] == "stage"]
    return {event["stage"]: event["state"] for event in events}


def test_every_file_of_the_run_folder_is_there(made: tuple[dict[str, Any], Run]) -> None:
    _, run = made
    there = set(files(run.folder))
    wanted = {
        "recipe.yaml",
        "events.jsonl",
        "data/train.parquet",
        "data/validation.parquet",
        "data/test.parquet",
        "data/ledger.parquet",
        "phases/1-sft/result/adapter_model.safetensors",
        "phases/1-sft/result/adapter_config.json",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/chat_template.jinja",
        "model/generation_config.json",
        "model/README.md",
        "evidence.json",
        "report.html",
        "README.md",
        "manifest.json",
    }
    assert wanted <= there, wanted - there
    assert any(name.startswith("phases/1-sft/checkpoints/step-") for name in there)
    assert any(name.startswith("tensorboard/events.out") for name in there)
    assert not [name for name in there if name.endswith((".part", ".partial", ".writing", ".bin", ".pt"))]


def test_training_and_gates_came_out(made: tuple[dict[str, Any], Run]) -> None:
    _, run = made
    assert run.passed, run.gates
    assert run.value("perplexity.perplexity") < run.value("perplexity.perplexity", "base")
    assert run.value("parity.max_difference", "merged") <= 1e-5
    assert run.value("parity.max_difference", "reloaded") <= 1e-5
    with pytest.raises(KeyError, match="measured"):
        run.value("text_match.nothing")


def test_the_manifest_names_inputs_outputs_and_costs(made: tuple[dict[str, Any], Run]) -> None:
    recipe, run = made
    manifest = json.loads((run.folder / "manifest.json").read_text())
    source = recipe["data"]["train"]
    assert manifest["inputs"][source]["sha256"] == sha256_of(Path(source))
    assert manifest["inputs"][source]["rows"] == 48
    for name, digest in manifest["outputs"].items():
        assert sha256_of(run.folder / name) == digest, name
    assert "model/model.safetensors" in manifest["outputs"]
    training = manifest["training"]["sft"]
    assert training["steps"] > 0
    assert 0 < training["trainable"] < training["parameters"]
    assert set(manifest["stages"]) >= {"prepare", "base", "train sft", "export", "check"}


@pytest.mark.parametrize("name", ["report.html", "README.md", "evidence.json", "model/README.md"])
def test_nothing_raw_or_undefined_is_printed(made: tuple[dict[str, Any], Run], name: str) -> None:
    _, run = made
    text = (run.folder / name).read_text(encoding="utf-8")
    visible = text.split("</style>")[-1]
    assert not re.findall(r"undefined|NaN|\bnan\b|\bNone\b|\{%|\{\{|,  |: \.|\binf\b", visible)


def test_losses_of_the_log_are_finite_and_complete(made: tuple[dict[str, Any], Run]) -> None:
    _, run = made
    steps = [event for event in read_events(run.folder / "events.jsonl") if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, steps[0]["total"] + 1))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert all(event["grad_norm"] > 0 and event["tokens_per_s"] > 0 for event in steps)


def test_the_time_of_steps_is_divided_without_a_remainder(made: tuple[dict[str, Any], Run]) -> None:
    """In the log, in the manifest and, with the wait for data by name, on the console and the page."""
    _, run = made
    events = list(read_events(run.folder / "events.jsonl"))
    parts = ["data", "forward", "backward", "optimizer", "rest"]
    for seconds in [event["seconds"] for event in events if event["event"] == "step"]:
        assert list(seconds) == [*parts, "step"]
        assert sum(seconds[name] for name in parts) == pytest.approx(seconds["step"], abs=4e-4)
    trained = json.loads((run.folder / "manifest.json").read_text())["training"]["sft"]
    assert list(trained["parts"]) == parts
    assert sum(trained["parts"].values()) == pytest.approx(trained["seconds"], abs=0.04)
    assert 0 < trained["waiting"] < 1
    said = [event["text"] for event in events if event["event"] == "note" and " steps in " in event["text"]]
    shares = {name.strip(): float(share) for name, share in re.findall(r"([a-z ]+) ([\d.]+)%", said[-1])}
    assert list(shares) == ["waiting for data", *parts[1:]]
    assert sum(shares.values()) == pytest.approx(100, abs=0.3)
    assert shares["waiting for data"] == pytest.approx(100 * trained["waiting"], abs=0.06)
    assert "waiting for data" in (run.folder / "report.html").read_text()


def test_a_second_identical_command_keeps_every_stage_and_changes_nothing(made: tuple[dict[str, Any], Run]) -> None:
    recipe, run = made
    before = files(run.folder)
    again = luthier.run(recipe, out=run.folder)
    assert set(last_stages(run.folder).values()) == {"kept"}
    after = files(run.folder)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"events.jsonl"} | {name for name in after if name.startswith("tensorboard/")}
    assert again.findings == run.findings


# Each of the following changes the run of this module; they work on copies.


@pytest.fixture
def copy(made: tuple[dict[str, Any], Run], tmp_path: Path) -> tuple[dict[str, Any], Path]:
    recipe, run = made
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "events.jsonl").unlink()
    return deepcopy(recipe), tmp_path / "run"


def test_another_rate_redoes_training_but_not_preparation(copy: tuple[dict[str, Any], Path]) -> None:
    recipe, folder = copy
    before = files(folder)
    luthier.run(recipe, ["optimizer.adamw.lr=1e-3", "trackers=[]"], out=folder)
    stages = last_stages(folder)
    assert stages["prepare"] == "kept"
    assert stages["train sft"] == stages["export"] == stages["check"] == "done"
    after = files(folder)
    assert before["model/model.safetensors"] != after["model/model.safetensors"]
    assert before["data/train.parquet"] == after["data/train.parquet"]


def test_one_changed_letter_of_the_data_redoes_everything(copy: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """The same rows, the same lengths, other content: nothing of the old run may be taken for the new one's."""
    recipe, folder = copy
    text = Path(recipe["data"]["train"]).read_text()
    other = tmp_path / "other.jsonl"
    other.write_text(text.replace("ready", "Ready"))
    recipe["data"]["train"] = str(other)
    before = files(folder)
    changed = luthier.run(recipe, ["trackers=[]"], out=folder)
    assert set(last_stages(folder).values()) == {"done"}
    fresh = luthier.run(recipe, ["trackers=[]"], out=tmp_path / "fresh")
    assert changed.findings == fresh.findings
    weights = "model/model.safetensors"
    assert files(folder)[weights] == files(tmp_path / "fresh")[weights] != before[weights]


def test_only_the_checks_are_done_again_when_only_they_change(copy: tuple[dict[str, Any], Path]) -> None:
    recipe, folder = copy
    again = luthier.run(recipe, ["checks.text_match.limit=2", "trackers=[]"], out=folder)
    stages = last_stages(folder)
    assert stages["train sft"] == stages["prepare"] == stages["export"] == "kept"
    assert stages["base"] == stages["check"] == "done"
    assert next(f.n for f in again.findings if f.check == "text_match") == 2


def test_what_was_removed_is_made_again(copy: tuple[dict[str, Any], Path]) -> None:
    recipe, folder = copy
    before = files(folder)
    gone = ["scores/perplexity.tuned.json", "model/model.safetensors", "data/test.parquet"]
    for name in gone:
        (folder / name).unlink()
    luthier.run(recipe, ["trackers=[]"], out=folder)
    after = files(folder)
    assert all(after[name] == before[name] for name in gone)
    assert last_stages(folder)["train sft"] == "kept"
