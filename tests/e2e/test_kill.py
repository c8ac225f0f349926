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

STEPS = 40
COMPARED = ("data/*.parquet", "phases/*/result/*", "phases/*/checkpoints/*/*.safetensors", "model/*", "scores/*")


@pytest.fixture(scope="module")
def recipe(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kill")
    data = write_jsonl(place / "chat.jsonl", chat_records(60))
    value = lm_recipe(
        llama_folder,
        data,
        steps=STEPS,
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


def steps_done(out: Path) -> int:
    return max((event["step"] for event in events(out) if event["event"] == "step"), default=0)


def notes(out: Path) -> list[str]:
    return [event["text"] for event in events(out) if event["event"] == "note"]


@pytest.mark.slow
def test_a_run_that_is_stopped_by_every_means_ends_in_the_bytes_of_its_twin(
    recipe: Path, twin: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    process = start(recipe, out)
    when(process, lambda: (out / "data").exists())
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert steps_done(out) == 0, "it was killed in preparation"

    process = start(recipe, out)
    when(process, lambda: steps_done(out) >= 5)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "model").exists(), "it was killed in training"

    for number in (signal.SIGTERM, signal.SIGINT):
        before = steps_done(out)
        process = start(recipe, out)
        when(process, lambda before=before: steps_done(out) > before)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert "same command" in errors
        assert "Traceback" not in errors
        kept = out / "phases" / "1-sft" / "checkpoints" / f"step-{steps_done(out):08d}"
        assert (kept / "checkpoint.json").exists(), "a signal leaves a checkpoint of the very step"

    stopped = steps_done(out)
    assert stopped < STEPS
    finish(recipe, out)
    assert f"goes on after step {stopped}" in notes(out)
    assert_twins(out, twin)


def test_two_runs_that_are_never_stopped_are_twins(recipe: Path, twin: Path, tmp_path: Path) -> None:
    """Of what is compared, nothing holds a time, a path of the run folder or anything else that differs."""
    finish(recipe, tmp_path / "run")
    assert_twins(tmp_path / "run", twin)
