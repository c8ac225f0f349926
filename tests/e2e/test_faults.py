"""What the world does to a run: a second run, files that vanish or change, a full disk, a clock set back, no memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import chat_records, lm_recipe, text_records, write_jsonl

import luthier
from luthier.cli.main import main
from luthier.core.errors import DataError, MachineError
from luthier.core.files import sha256_of
from luthier.core.run import read_events


def small(model: Path, place: Path) -> dict[str, Any]:
    data = write_jsonl(place / "chat.jsonl", chat_records(30))
    checkpoints = {"every": 1, "keep": 2}
    return lm_recipe(model, data, steps=4, per_step={"rows": 4}, watch={"every": 2}, checkpoints=checkpoints)


@pytest.fixture
def recipe(llama_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return small(llama_folder, tmp_path)


@pytest.fixture(scope="module")
def twin(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the same recipe's run that nothing happened to."""
    place = tmp_path_factory.mktemp("twin")
    return weights(luthier.run(small(llama_folder, place), out=place / "run", until="train").folder)


def file_of(recipe: dict[str, Any], place: Path) -> Path:
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return place / "recipe.yaml"


def command(*arguments: str | Path) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def said(out: Path, *kinds: str) -> list[str]:
    return [event["text"] for event in read_events(out / "events.jsonl") if event["event"] in kinds]


def states(out: Path) -> dict[str, str]:
    return {event["stage"]: event["state"] for event in read_events(out / "events.jsonl") if event["event"] == "stage"}


def weights(out: Path) -> str:
    return sha256_of(next(out.glob("phases/1-*/result/*.safetensors")))


# ---- one run at a time -----------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from luthier.core.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to the run folder `run`."""
    (tmp_path / "run").mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_in_a_folder_is_refused_until_the_first_is_gone(
    recipe: dict[str, Any], holder: subprocess.Popen[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, path = tmp_path / "run", file_of(recipe, tmp_path)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    before = sorted(out.iterdir())
    calls = (("run", path, "--out", out), ("train", out), ("check", out), ("export", out))
    for call in calls:
        assert command(*call) == 2
        error = capfd.readouterr().err
        assert f"process {holder.pid} on " in error
        assert "--out" in error
        assert "Traceback" not in error
    with pytest.raises(MachineError, match="another run is writing to this folder"):
        luthier.fit("embedded:nano", chat_records(4), out=out)
    assert sorted(out.iterdir()) == before, "who is refused writes nothing"
    holder.kill()
    holder.wait()
    assert command("run", path, "--out", out) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert not [name for name in manifest["outputs"] if "lock" in name]


def test_a_run_refuses_another_in_its_own_process_and_in_its_seeds(recipe: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    refused = []

    def again(record: Any) -> None:
        if record["event"] == "stage" and not refused:
            for folder in (out, out / "seeds" / "seed-1"):
                with pytest.raises(MachineError, match=f"process {os.getpid()} on"):
                    luthier.run(recipe, out=folder, until="prepare")
                refused.append(folder)

    luthier.run(recipe | {"seed": [1, 2]}, out=out, until="prepare", listeners=[again])
    assert len(refused) == 2
    assert list(out.rglob(".lock")) == [out / ".lock"], "one lock for all seeds"


def test_without_locks_a_run_goes_on_and_says_so(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    heard: list[Any] = []
    luthier.run(recipe, out=tmp_path / "run", until="prepare", listeners=[heard.append])
    assert [event["text"] for event in heard if event["event"] == "warning"] == [
        "the file system has no locks: see that no other run writes to this folder"
    ]


# ---- files that vanish or change -------------------------------------------------------------------------------------


def test_data_that_vanished_is_not_needed_again(
    recipe: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, general = tmp_path / "run", write_jsonl(tmp_path / "general.jsonl", text_records(12))
    data = Path(recipe["data"]["train"])
    recipe["checks"] = ["perplexity", {"forgetting": {"on": str(general)}}]
    path = file_of(recipe, tmp_path)
    luthier.run(recipe, out=out, until="base")
    kept = data.rename(tmp_path / "aside.jsonl")
    assert command("run", path, "--out", out) == 0
    assert f"'{data}' is not there any more; what was made of it before is kept and used" in said(out, "warning")
    assert states(out) == {"prepare": "kept", "base": "kept"} | dict.fromkeys(["train sft", "export", "check"], "done")

    general_aside = general.rename(tmp_path / "general aside.jsonl")
    trained = weights(out)
    for again in (("run", path, "--out", out), ("check", out), ("export", out)):
        assert command(*again) == 0
        assert set(states(out).values()) == {"kept"}

    before = json.loads((out / "manifest.json").read_text())["stages"]
    for change, file in (("data.test=0.3", data), ("checks.forgetting.limit=4", general)):
        capfd.readouterr()
        assert command("check", out, change) == 2
        error = " ".join(capfd.readouterr().err.split())
        assert "is not there any more, and" in error
        assert file.name in error.replace(" ", "")
        assert json.loads((out / "manifest.json").read_text())["stages"] == before
        assert yaml.safe_load((out / "recipe.yaml").read_text())["data"]["test"] == 0.2, "nothing came of the change"
    kept.rename(data)
    general_aside.rename(general)
    assert command("run", path, "--out", out) == 0
    assert set(states(out).values()) == {"kept"}
    assert weights(out) == trained

    data.unlink()
    assert command("run", path, "--out", tmp_path / "another") == 2, "nothing was prepared there"


def test_changed_data_is_said_and_never_mixed(recipe: dict[str, Any], tmp_path: Path) -> None:
    out, data = tmp_path / "run", Path(recipe["data"]["train"])

    def stop(record: Any) -> None:
        if record["event"] == "checkpoint" and record["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        luthier.run(recipe, out=out, listeners=[stop])
    first = sha256_of(data)
    write_jsonl(data, chat_records(30)[::-1])
    luthier.run(recipe, out=out)
    wanted = f"'{data}' changed (SHA-256 {first[:8]}, now {sha256_of(data)[:8]})"
    assert [text for text in said(out, "warning") if text.startswith(wanted)]
    assert not [text for text in said(out, "note") if "goes on after" in text]
    assert weights(out) == weights(luthier.run(recipe, out=tmp_path / "twin", until="train").folder)


def test_data_that_changes_between_stages_is_trained_on_as_prepared(recipe: dict[str, Any], tmp_path: Path) -> None:
    """The run that saw the old file ends as the old file's; the next one starts over with the new."""
    out, data = tmp_path / "run", Path(recipe["data"]["train"])

    def change(record: Any) -> None:
        if record["event"] == "stage" and record["stage"] == "train sft":
            write_jsonl(data, chat_records(30)[::-1])

    luthier.run(recipe, out=out, until="export", listeners=[change])
    old = weights(out)
    luthier.run(recipe, out=out, until="train")
    assert weights(out) != old
    assert weights(out) == weights(luthier.run(recipe, out=tmp_path / "twin", until="train").folder)


def test_a_file_that_is_being_written_is_refused(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(recipe["data"]["train"])

    def change(record: Any) -> None:
        if record["event"] == "stage":
            write_jsonl(data, chat_records(31))

    with pytest.raises(DataError, match="changed while it was read"):
        luthier.run(recipe, out=tmp_path / "run", listeners=[change])
    luthier.run(recipe, out=tmp_path / "run", until="prepare")


def test_seeds_that_saw_different_files_make_no_spread(recipe: dict[str, Any], tmp_path: Path) -> None:
    data, several = Path(recipe["data"]["train"]), recipe | {"seed": [1, 2]}

    def change(record: Any) -> None:
        if record.get("text") == "seed 2":
            write_jsonl(data, chat_records(31))

    with pytest.raises(DataError, match="changed between one seed's run and another's"):
        luthier.run(several, out=tmp_path / "run", until="prepare", listeners=[change])
    luthier.run(several, out=tmp_path / "run", until="prepare")


def test_what_another_recipe_left_half_done_is_not_taken_for_finished(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Recipe A, then B stopped in its preparation, then A again in one folder."""
    out = tmp_path / "run"
    rows = out / "data" / "train.parquet"
    luthier.run(recipe, out=out, until="prepare")
    wanted = sha256_of(rows)
    other = recipe | {"data": recipe["data"] | {"test": 0.4}}

    def torn(record: Any) -> None:
        rows.write_bytes(b"half of B's")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        luthier.run(other, out=out, until="prepare", listeners=[torn])
    luthier.run(recipe, out=out, until="prepare")
    assert sha256_of(rows) == wanted


# ---- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["flipped", "best"])
def test_a_damaged_checkpoint_is_said_and_the_result_is_the_twins(
    recipe: dict[str, Any], twin: str, tmp_path: Path, harm: str
) -> None:
    out = tmp_path / "run"

    def stop(record: Any) -> None:
        if record["event"] == "checkpoint" and record["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        luthier.run(recipe, out=out, listeners=[stop])
    checkpoints = out / "phases" / "1-sft" / "checkpoints"
    newest = checkpoints / ("best" if harm == "best" else "step-00000003")
    file = newest / "weights.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    luthier.run(recipe, out=out, until="train")
    goes_on = "training begins anew" if harm == "best" else "training goes on after step 2"
    assert f"the checkpoint {newest.name} is damaged and was removed; {goes_on}" in said(out, "warning")
    assert weights(out) == twin


# ---- disk, clock, memory ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no command 'mount' to make a small disk with")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(
    recipe: dict[str, Any], twin: str, small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The system itself refuses, at ever later places, as the filler on the disk shrinks from command to command."""
    path, out, filler = file_of(recipe, tmp_path), small_disk / "run", small_disk / "filler"
    stages: list[str] = []
    for room in range(0, 1_500_000, 50_000):
        filler.unlink(missing_ok=True)
        there = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(b"x" * max(0, there - room))
        code, error = command("run", path, "--out", out), capfd.readouterr().err
        if code == 0:
            break
        assert code == 2
        assert "the disk is full" in error, error
        assert "Traceback" not in error
        stages.append(next(reversed(states(out)), "before the log"))
    assert {"before the log", "train sft"} <= set(stages), stages
    assert weights(out) == twin


def test_a_read_only_folder_is_refused(recipe: dict[str, Any], small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(MachineError, match="cannot be made: Read-only file system"):
        luthier.run(recipe, out=small_disk / "run")
    with pytest.raises(MachineError, match="is not writable"):
        luthier.run(recipe, out=small_disk)


def test_a_clock_set_back_changes_nothing(
    recipe: dict[str, Any], twin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["checks"] = ["perplexity"]
    clock, back = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: clock() - back[0])

    def turn(record: Any) -> None:
        if record["event"] == "checkpoint" and record["step"] == 2:
            back[0] = 86_400.0

    out = luthier.run(recipe, out=tmp_path / "run", listeners=[turn]).folder
    times = [event["time"] for event in read_events(out / "events.jsonl")]
    assert times != sorted(times), "the clock did go back"
    manifest = json.loads((out / "manifest.json").read_text())
    assert all(stage["seconds"] >= 0 for stage in manifest["stages"].values())
    assert manifest["training"]["sft"]["seconds"] > 0
    luthier.run(recipe, out=out)
    assert set(states(out).values()) == {"kept"}
    assert weights(out) == twin


MEMORY = """
import json, resource, sys
from pathlib import Path
import psutil
import luthier
from luthier.core.errors import LuthierError

recipe, out, room = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], int(sys.argv[3])

def limit(record):
    if record["event"] == "stage" and record["stage"] == "train sft" and record["state"] == "started":
        most = psutil.Process().memory_info().vms + room * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    elif record["event"] in ("warning", "step"):
        print(record.get("text", "step done"))

try:
    luthier.run(recipe, out=out, until="train", listeners=[limit])
except LuthierError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process from taking more address space")
@pytest.mark.slow
def test_memory_limited_by_the_system_makes_micro_batches_smaller(tmp_path: Path) -> None:
    """Room (600 MB of addresses) for some of the rows that a micro-batch asks for."""
    asked = {"role": "user", "content": "Tell me of the moon. " * 30}
    answer = {"role": "assistant", "content": "The moon is far away and round. " * 30}
    data = write_jsonl(tmp_path / "rows.jsonl", [{"messages": [asked, answer], "id": str(n)} for n in range(16)])
    recipe = lm_recipe(
        Path("embedded:nano"), data, steps=1, per_step={"rows": 16}, adaptation="full", machine={"micro_tokens": 8192}
    )
    recipe["data"] = {"train": str(data)}
    recipe["phases"][0]["max_length"] = 512
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "recipe.json"), str(tmp_path / "run"), "600"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert any("out of memory at step 1: micro-batches of" in line for line in lines), done.stdout
    assert "step done" in lines, done.stdout
