"""Checkpoints: safetensors and JSON, written aside, synced, renamed; recognized as whole by digest. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..core.errors import MachineError, first_line
from ..core.files import clear_leftovers, folder_aside, remove_tree, sha256_of, write_atomic, writing
from ..core.run import digest_of

__all__ = ["Checkpoint", "Checkpoints"]

_AVERAGE = "average.safetensors"
_FILES = ("weights.safetensors", "optimizer.safetensors", _AVERAGE)
"""What a checkpoint holds beside its values; the last only where a mean of the weights is kept."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole training state: trained weights, the optimizer's tensors, plain values (step, watch, totals), and the
    mean of the weights where one is kept.
    """

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    values: dict[str, Any]
    average: dict[str, torch.Tensor] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one phase: the newest `keep`, and `best`. `torn` names those that were found damaged,
    and removed. begun.json says what the fit began with.

    Errors: MachineError where the system refuses to read, to write or to remove; what was whole is still there.
    """

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder, self.keep = folder, keep
        self.torn: list[str] = []
        with writing("checkpoint", folder):
            folder.mkdir(parents=True, exist_ok=True)
            left = [place for place in folder.iterdir() if place.suffix in (".writing", ".before")]
        clear_leftovers([], [place.with_suffix("") for place in left])

    def write(self, step: int, checkpoint: Checkpoint) -> Path:
        """The state after `step` steps. It exists whole or not at all; older ones go only afterwards."""
        target = self._write(f"step-{step:08d}", checkpoint)
        self._prune()
        return target

    def write_best(self, checkpoint: Checkpoint) -> Path:
        """Keeps the trained weights of the best step so far, beside the numbered checkpoints."""
        return self._write("best", checkpoint)

    def newest(self, depends: str) -> Checkpoint | None:
        """The newest whole checkpoint of the fit that `depends` names; a torn one is passed over for the one before."""
        found = self._first([folder.name for folder in reversed(self._steps())], depends)
        if found is not None:
            self._prune()  # whoever wrote the newest may not have come to remove the oldest
        return found

    def best(self, depends: str) -> Checkpoint | None:
        """The best weights of the fit that `depends` names."""
        return self._first(["best"], depends)

    def begun(self, depends: str, micro_tokens: int) -> int:
        """The micro-batch that the fit began with; `micro_tokens`, which is then written down, where it begins now.

        What it learns of memory may be remembered for later runs, and must not change its own first steps.
        """
        path = self.folder / "begun.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["depends"] == depends:
                return int(record["micro_tokens"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there is none, or not a whole one
        write_atomic(path, json.dumps({"depends": depends, "micro_tokens": micro_tokens}) + "\n")
        return micro_tokens

    def clear(self) -> None:
        """Removes all of them: another fit begins here."""
        for folder in (*self._steps(), self.folder / "best"):
            remove_tree(folder)

    def _first(self, names: list[str], depends: str) -> Checkpoint | None:
        for name in names:
            found = self._read(self.folder / name)
            if found is not None and found.values.get("depends") == depends:
                return found
        return None

    def _prune(self) -> None:
        for old in self._steps()[: -self.keep]:
            remove_tree(old)

    def _steps(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.suffix == "")

    def _write(self, name: str, checkpoint: Checkpoint) -> Path:
        target = self.folder / name
        with folder_aside(target, "checkpoint") as aside:
            parts = (checkpoint.weights, checkpoint.optimizer, checkpoint.average)
            files = {file: tensors for file, tensors in zip(_FILES, parts, strict=True) if tensors or file != _AVERAGE}
            for file, tensors in files.items():
                save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, aside / file)
            digests = {file: sha256_of(aside / file) for file in files} | {"values": digest_of(checkpoint.values)}
            record = {"values": checkpoint.values, "digests": digests}
            (aside / "checkpoint.json").write_text(json.dumps(record, sort_keys=True), encoding="utf-8")
        return target

    def _read(self, folder: Path) -> Checkpoint | None:
        if not folder.exists():
            return None
        try:
            record: Mapping[str, Any] = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
            files = [file for file in _FILES if file != _AVERAGE or file in record["digests"]]
            digests = {file: sha256_of(folder / file) for file in files}
            if digests | {"values": digest_of(record["values"])} != record["digests"]:
                raise ValueError("the files are not those that were written")
            return Checkpoint(
                load_file(folder / "weights.safetensors"),
                load_file(folder / "optimizer.safetensors"),
                dict(record["values"]),
                load_file(folder / _AVERAGE) if _AVERAGE in files else {},
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, SafetensorError):
            self.torn.append(folder.name)
            remove_tree(folder)  # it would be counted among the newest
            return None
        except OSError as error:
            # Whole or not, it cannot be told now: removing it could lose what another try reads.
            raise MachineError(
                f"the checkpoint cannot be read: {error.strerror or first_line(error)}",
                where=str(folder),
                expected="files that can be read",
                remedy="see whether the disk and the access rights are in order, and give the same command again; "
                "remove the folder to go on without it",
            ) from error
