"""Runs that are killed and given again end in the bytes of one that never was, and the comparison would see if not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_runs import chat_records, lm_recipe, write_jsonl

from benchmarks import kill_resume
from benchmarks._killed import differences, finish_here


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_and_given_again_ends_in_the_bytes_of_its_twin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The quick form of the campaign: SIGKILL in preparation, in a step, in a checkpoint, in the report; SIGTERM."""
    status = kill_resume.main(["--quick", "--folder", str(tmp_path / "runs"), "--json", str(tmp_path / "rows.json")])
    assert status == 0, capsys.readouterr().out
    rows = {row["name"].partition(":")[0]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert rows["runs killed"]["ours"] == 4
    assert (rows["all kills"]["ours"], rows["all kills"]["other"]) == (4, 4)
    assert any(name.startswith("SIGTERM") for name in rows)


@pytest.fixture(scope="module")
def twins(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of one recipe in one place, neither stopped; the first moved away for the second."""
    place = tmp_path_factory.mktemp("kill")
    value = lm_recipe(
        llama_folder,
        write_jsonl(place / "chat.jsonl", chat_records(40)),
        steps=4,
        dropout=0.1,
        watch={"every": 2},
        adaptation={"lora": {"rank": 4, "dropout": 0.1}},
        checks=[{"perplexity": {"limit": 2}}],
    )
    (place / "recipe.yaml").write_text(yaml.safe_dump(value))
    for name in ("first", "second"):
        finish_here(place / "recipe.yaml", place / "run")
        (place / "run").rename(place / name)
    return place / "first", place / "second"


def test_two_runs_that_are_never_stopped_are_twins(twins: tuple[Path, Path]) -> None:
    """What is compared holds no time; and what an earlier run in the same process drew does not matter."""
    assert differences(*twins) == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def drop_line(path: Path, holding: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if holding not in line]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept))


def log_again(path: Path) -> None:
    """An attempt that made the first step anew, with another gradient."""
    step = next(event for event in map(json.loads, path.read_text().splitlines()) if event["event"] == "step")
    with path.open("a") as log:
        log.write(json.dumps(step | {"grad_norm": step["grad_norm"] * (1 + 1e-7)}) + "\n")


CHANGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a bit of the model": ("model/model.safetensors", flip, "model/model.safetensors has other bytes"),
    "a bit of the optimizer's state": (
        "phases/1-sft/checkpoints/step-00000004/optimizer.safetensors",
        flip,
        "phases/1-sft/checkpoints/step-00000004/optimizer.safetensors has other bytes",
    ),
    "a row's split": ("data/train.parquet", flip, "data/train.parquet has other bytes"),
    "a finding": ("evidence.json", lambda path: replace(path, '"n": 2', '"n": 3'), "evidence.json has other bytes"),
    "a file too many": (".README.md.abcdefgh.part", Path.touch, ".README.md.abcdefgh.part is only in the run"),
    "a file too few": ("scores/perplexity.base.json", Path.unlink, "scores/perplexity.base.json is only in the twin"),
    "a figure of the training": (
        "manifest.json",
        lambda path: replace(path, '"best_step": ', '"best_step": 1'),
        "manifest.json has other values",
    ),
    "a report that is empty": ("report.html", lambda path: path.write_text(""), "report.html is empty"),
    "a step that nobody made": (
        "events.jsonl",
        lambda path: drop_line(path, '"step": 3, "total"'),
        "events.jsonl: sft step 3 is missing",
    ),
    "a step made in another way": ("events.jsonl", log_again, "events.jsonl: sft step 1 is"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_difference_is_seen(what: str, twins: tuple[Path, Path], tmp_path: Path) -> None:
    file, change, expected = CHANGES[what]
    shutil.copytree(twins[0], tmp_path / "run")
    change(tmp_path / "run" / file)
    found = differences(tmp_path / "run", twins[1])
    assert [line[: len(expected)] for line in found] == [expected]
