"""Checkpoints on disk: whole or not there, the torn passed over, no more than asked for."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from luthier.core.errors import MachineError
from luthier.engine import checkpoint
from luthier.engine.checkpoint import Checkpoint, Checkpoints


def state(step: int, fit: str = "a fit") -> Checkpoint:
    weights = {"w": torch.full((3,), float(step)), "half": torch.ones(2, dtype=torch.bfloat16)}
    return Checkpoint(weights, {"w/exp_avg": torch.zeros(3)}, {"step": step, "depends": fit})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "c")
    kept.write(7, state(7))
    found = Checkpoints(tmp_path / "c").newest("a fit")
    assert found is not None
    assert found.values == {"step": 7, "depends": "a fit"}
    assert torch.equal(found.weights["w"], torch.full((3,), 7.0))
    assert found.weights["half"].dtype == torch.bfloat16
    assert found.optimizer.keys() == {"w/exp_avg"}


def test_a_full_disk_is_told_and_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path)
    kept.write(1, state(1))

    def full(tensors: object, file: Path) -> None:
        Path(file).write_bytes(b"half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(MachineError, match="the disk is full") as caught:
        kept.write(2, state(2))
    assert "free some space" in str(caught.value)
    found = Checkpoints(tmp_path).newest("a fit")
    assert found is not None
    assert found.values["step"] == 1


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    kept = Checkpoints(tmp_path, keep)
    for step in (1, 2, 3, 10):
        kept.write(step, state(step))
    assert names(tmp_path) == [f"step-{step:08d}" for step in (1, 2, 3, 10)][-keep:]


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("harm", ["cut", "absent", "flipped", "empty"])
def test_a_torn_one_is_passed_over_for_the_one_before(tmp_path: Path, file: str, harm: str) -> None:
    kept = Checkpoints(tmp_path, keep=2)
    kept.write(1, state(1))
    kept.write(2, state(2))
    torn = tmp_path / "step-00000002" / file
    content = bytearray(torn.read_bytes())
    if harm == "absent":
        torn.unlink()
    elif harm == "empty":
        torn.write_bytes(b"{}")
    elif harm == "cut":
        torn.write_bytes(content[: len(content) // 2])
    else:
        # A changed digit of a plain value is still JSON.
        content[-1 if file != "checkpoint.json" else content.index(b'"step": 2') + 8] ^= 1
        torn.write_bytes(content)
    reading = Checkpoints(tmp_path, keep=2)
    found = reading.newest("a fit")
    assert found is not None
    assert found.values["step"] == 1
    assert reading.torn == ["step-00000002"]
    kept.write(2, state(2))
    again = kept.newest("a fit")
    assert again is not None
    assert again.values["step"] == 2


def test_one_that_cannot_be_read_now_is_told_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path)
    kept.write(1, state(1))

    def refused(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sha256_of", refused)
        with pytest.raises(MachineError, match="cannot be read: Input/output error") as caught:
            kept.newest("a fit")
    assert "step-00000001" in str(caught.value)
    found = kept.newest("a fit")
    assert found is not None
    assert kept.torn == []


def test_another_fits_checkpoints_are_not_taken(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=2)
    kept.write(5, state(5, "another"))
    kept.write_best(state(4, "another"))
    assert kept.newest("a fit") is None
    assert kept.best("a fit") is None
    kept.clear()
    assert names(tmp_path) == []


def test_the_one_before_comes_back_where_its_successor_was_not_put_in_place(tmp_path: Path) -> None:
    """A process killed between the two renames leaves NAME.before and NAME.writing."""
    kept = Checkpoints(tmp_path)
    kept.write(6, state(6))
    kept.write_best(state(3))
    kept.write_best(state(6))
    assert names(tmp_path) == ["best", "step-00000006"]
    for name in ("best", "step-00000006"):
        (tmp_path / name).rename(tmp_path / f"{name}.before")
        (tmp_path / f"{name}.writing").mkdir()
    again = Checkpoints(tmp_path)
    for found in (again.best("a fit"), again.newest("a fit")):
        assert found is not None
        assert found.values["step"] == 6
    assert names(tmp_path) == ["best", "step-00000006"]
    assert again.torn == []


def test_what_was_being_written_aside_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "step-00000009.writing").mkdir()
    (tmp_path / "step-00000009.writing" / "weights.safetensors").write_bytes(b"half")
    kept = Checkpoints(tmp_path)
    assert names(tmp_path) == []
    assert kept.newest("a fit") is None


def test_what_could_not_be_removed_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path)
    kept.write(1, state(1))

    def refused(folder: Path) -> None:
        raise MachineError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "remove_tree", refused)
        with pytest.raises(MachineError, match="not now"):
            kept.write(2, state(2))
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    found = Checkpoints(tmp_path).newest("a fit")
    assert found is not None
    assert found.values["step"] == 2
    assert names(tmp_path) == ["step-00000002"]
