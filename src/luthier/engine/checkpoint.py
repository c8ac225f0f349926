"""Checkpoints: safetensors and JSON, written aside, synced, renamed; recognized as whole by digest. No pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..core.errors import MachineError, first_line
from ..core.files import sha256_of, sync_folder

__all__ = ["Checkpoint", "Checkpoints"]


@dataclass(frozen=True)
class Checkpoint:
    """A whole training state: trained weights, the optimizer's tensors, and plain values (step, watch, totals)."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    values: dict[str, Any]


class Checkpoints:
    """The checkpoints of one phase: the newest `keep`, and `best`."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.writing"):
            shutil.rmtree(left)

    def write(self, step: int, checkpoint: Checkpoint) -> Path:
        """The state after `step` steps. It exists whole or not at all; older ones go only afterwards."""
        target = self._write(f"step-{step:08d}", checkpoint)
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(old)
        return target

    def write_best(self, checkpoint: Checkpoint) -> Path:
        """Keeps the trained weights of the best step so far, beside the numbered checkpoints."""
        return self._write("best", checkpoint)

    def newest(self, depends: str) -> Checkpoint | None:
        """The newest whole checkpoint of the fit that `depends` names; a torn one is passed over for the one before."""
        return self._first([folder.name for folder in reversed(self._steps())], depends)

    def best(self, depends: str) -> Checkpoint | None:
        """The best weights of the fit that `depends` names."""
        return self._first(["best", "best.before"], depends)

    def clear(self) -> None:
        """Removes all of them: another fit begins here."""
        for folder in (*self._steps(), *self.folder.glob("*.before"), self.folder / "best"):
            shutil.rmtree(folder, ignore_errors=True)

    def _first(self, names: list[str], depends: str) -> Checkpoint | None:
        for name in names:
            found = self._read(self.folder / name)
            if found is not None and found.values.get("depends") == depends:
                return found
        return None

    def _steps(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.suffix == "")

    def _write(self, name: str, checkpoint: Checkpoint) -> Path:
        try:
            return self._written(name, checkpoint)
        except (OSError, SafetensorError) as error:
            raise MachineError(
                f"the checkpoint cannot be written: {first_line(error)}",
                where=str(self.folder / name),
                expected="room on the disk and the right to write",
                remedy="free some space; the same command goes on from the checkpoint before",
            ) from error

    def _written(self, name: str, checkpoint: Checkpoint) -> Path:
        aside, target = self.folder / f"{name}.writing", self.folder / name
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        files = {"weights.safetensors": checkpoint.weights, "optimizer.safetensors": checkpoint.optimizer}
        for file, tensors in files.items():
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, aside / file)
        digests = {file: sha256_of(aside / file) for file in files}
        values = {"values": checkpoint.values, "digests": digests}
        (aside / "checkpoint.json").write_text(json.dumps(values, sort_keys=True), encoding="utf-8")
        for file in [*files, "checkpoint.json"]:
            with (aside / file).open("rb+") as handle:
                os.fsync(handle.fileno())
        sync_folder(aside)
        if target.exists():
            # A folder cannot be replaced in one rename: the old one waits beside until the new one is in place.
            before = self.folder / f"{name}.before"
            shutil.rmtree(before, ignore_errors=True)
            target.rename(before)
            aside.rename(target)
            sync_folder(self.folder)
            shutil.rmtree(before)
        else:
            aside.rename(target)
            sync_folder(self.folder)
        return target

    def _read(self, folder: Path) -> Checkpoint | None:
        try:
            record: Mapping[str, Any] = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
            if any(sha256_of(folder / file) != digest for file, digest in record["digests"].items()):
                return None
            return Checkpoint(
                load_file(folder / "weights.safetensors"),
                load_file(folder / "optimizer.safetensors"),
                dict(record["values"]),
            )
        except (OSError, ValueError, KeyError, SafetensorError):
            return None
