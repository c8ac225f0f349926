"""Errors, files and the run folder."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest

from luthier.core import errors, files
from luthier.core.errors import LuthierError, MachineError, MissingExtra, Problem, nearest
from luthier.core.files import sha256_of, write_atomic
from luthier.core.run import EventLog, RunFolder, digest_of, read_events

# ---- errors ----------------------------------------------------------------------------------------------------------


def test_the_docstring_draws_every_error() -> None:
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        value = getattr(errors, name)
        if isinstance(value, type) and issubclass(value, LuthierError):
            line = next(line for line in drawn.splitlines() if name in line.split())
            assert f"exit {value.exit_code}" in " ".join(line.split())


def test_a_problem_reads_as_where_what_expected_remedy() -> None:
    problem = Problem("3 rows are torn", "a.csv", "whole rows", "mend them")
    assert str(problem) == "a.csv: 3 rows are torn\n  expected: whole rows\n  remedy: mend them"
    assert problem.at("b.csv") is problem
    assert str(Problem("torn").at("b.csv")) == "b.csv: torn"
    assert str(LuthierError([problem, Problem("x")])).endswith("\nx")


def test_nearest_and_extras() -> None:
    assert nearest("perplexty", ["parity", "perplexity"]) == "perplexity"
    assert nearest("zzz", ["parity"]) is None
    assert MissingExtra.of("hub", "it").problems[0].remedy == "pip install 'luthier[hub]'"


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "file.txt"
    write_atomic(target, "größer")
    assert target.read_bytes() == "größer".encode()
    assert sha256_of(target) == hashlib.sha256("größer".encode()).hexdigest()
    assert stat.S_IMODE(target.stat().st_mode) & 0o400

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(MachineError, match="the disk is full"):
        write_atomic(target, "other")
    assert target.read_text(encoding="utf-8") == "größer"
    assert [file.name for file in target.parent.iterdir()] == ["file.txt"]


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MachineError, match="a part of the path is a file"):
        write_atomic(tmp_path / "file" / "inside", "x")
    with pytest.raises(MachineError, match="cannot be made"):
        RunFolder(tmp_path / "file" / "run")


# ---- the run folder --------------------------------------------------------------------------------------------------


def test_equal_values_have_equal_digests() -> None:
    assert digest_of({"a": 1, "b": [2, "ü"]}) == digest_of({"b": [2, "ü"], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})
    assert digest_of([]) == hashlib.sha256(b"[]").hexdigest()


def test_a_stage_is_kept_for_its_key_while_its_files_are_there(tmp_path: Path) -> None:
    folder, log = RunFolder(tmp_path / "run"), EventLog(None)
    made = folder.data / "train.parquet"
    with folder.stage("prepare", "key", log, (folder.data,)):
        write_atomic(made, b"rows")
    assert folder.finished("prepare", "key")
    assert not folder.finished("prepare", "other key")
    assert not folder.finished("train", "key")
    made.unlink()
    assert not folder.finished("prepare", "key")


def test_a_stage_that_fails_is_not_finished(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match="torn"), folder.stage("prepare", "key", EventLog(None), ()):
        raise ValueError("torn")
    assert not folder.finished("prepare", "key")


def test_the_manifest_merges_one_level(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.update_manifest(training={"a": 1}, seed=1)
    folder.update_manifest(training={"b": 2}, seed=2)
    assert folder.manifest() == {"training": {"a": 1, "b": 2}, "seed": 2}


def test_events_survive_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log("step", loss=1.5)
    log.close()
    with path.open("a") as file:
        file.write('{"event": "st')
    heard: list[dict[str, object]] = []
    again = EventLog(path, (heard.append,))  # type: ignore[arg-type]
    again("step", loss=1.25)
    again.close()
    assert [event["loss"] for event in read_events(path)] == [1.5, 1.25]
    assert [event["loss"] for event in heard] == [1.25]
    assert len(path.read_text().splitlines()) == 3


def test_digests_cover_what_a_reader_relies_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for place in (
        "model/config.json",
        "data/train.parquet",
        "phases/1-a/result/w.safetensors",
        "phases/1-a/x/y",
        "recipe.yaml",
    ):
        write_atomic(tmp_path / place, json.dumps(place))
    assert set(folder.digests()) == {
        "model/config.json",
        "data/train.parquet",
        "phases/1-a/result/w.safetensors",
        "recipe.yaml",
    }
