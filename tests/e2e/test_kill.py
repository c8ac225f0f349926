"""A real `luthier run` that is killed, in preparation and in training, and given again: the same bytes as its twin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import chat_records, lm_recipe, write_jsonl

from luthier.cli.main import main
from luthier.core.files import sha256_of
from luthier.core.run import read_events

COMPARED = ("data/*.parquet", "phases/*/result/*", "phases/*/checkpoints/*/*.safetensors", "model/*", "scores/*")


@pytest.fixture(scope="module")
def recipe(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kill")
    data = write_jsonl(place / "chat.jsonl", chat_records(60))
    value = lm_recipe(
        llama_folder,
        data,
        steps=16,
        per_step={"rows": 4},
        dropout=0.1,
        watch={"every": 4},
        checkpoints={"every": 2, "keep": 2},
        adaptation={"lora": {"rank": 4, "dropout": 0.1}},
        checks=[{"text_match": {"limit": 2}}, "perplexity"],
    )
    value["data"]["steps"] = ["clean", "deduplicate"]
    (place / "recipe.yaml").write_text(yaml.safe_dump(value))
    return place / "recipe.yaml"


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "luthier.cli.main", "run", str(recipe), "--out", str(out), "--plain"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(recipe: Path, out: Path) -> None:
    """The same command, in this process: a fresh one would only spend its time on imports."""
    main(["run", str(recipe), "--out", str(out), "--plain"])


@pytest.fixture(scope="module")
def twin(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never stopped."""
    out = tmp_path_factory.mktemp("twin") / "run"
    finish(recipe, out)
    return out


def when(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Waits until `ready`; the process must not end before."""
    end = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def events(out: Path) -> list[dict[str, Any]]:
    return list(read_events(out / "events.jsonl"))


def assert_twins(one: Path, other: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        found = (file for pattern in COMPARED for file in folder.glob(pattern) if file.name != "README.md")
        return {str(file.relative_to(folder)): sha256_of(file) for file in found if file.is_file()}

    assert digests(one) == digests(other)
    assert (one / "evidence.json").read_bytes() == (other / "evidence.json").read_bytes()
    first, second = (json.loads((folder / "manifest.json").read_text())["training"]["sft"] for folder in (one, other))
    for name in ("steps", "epochs", "tokens", "supervised", "best_step", "best_loss", "stopped"):
        assert first[name] == second[name], name


def test_killed_in_training(recipe: Path, twin: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(recipe, out)
    when(process, lambda: any(event["event"] == "step" and event["step"] >= 7 for event in events(out)))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "model").exists()
    finish(recipe, out)
    again = [event for event in events(out) if event["event"] == "note" and "goes on after" in event.get("text", "")]
    assert again, "it must go on, not begin anew"
    assert_twins(out, twin)


def test_killed_in_preparation(recipe: Path, twin: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(recipe, out)
    when(process, lambda: (out / "data").exists())
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finish(recipe, out)
    assert_twins(out, twin)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_130_and_a_checkpoint(number: int, recipe: Path, twin: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(recipe, out)
    when(process, lambda: any(event["event"] == "step" for event in events(out)))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "same command" in errors
    assert "Traceback" not in errors
    steps = [event["step"] for event in events(out) if event["event"] == "step"]
    assert (out / "phases" / "1-sft" / "checkpoints" / f"step-{steps[-1]:08d}" / "checkpoint.json").exists()
    finish(recipe, out)
    assert_twins(out, twin)
