"""Trackers: listeners that hand events on to tools people already use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import MissingExtra
from ..core.files import writing

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes step and validation events as scalars, by phase. Errors: MissingExtra where tensorboard is absent;
    MachineError where the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra.of("tensorboard", "the tracker tensorboard") from error
        self._folder = folder
        with writing("tracker's log", folder):
            self._writer: Any = SummaryWriter(str(folder))

    def __call__(self, record: Mapping[str, Any]) -> None:
        with writing("tracker's log", self._folder):
            self._add(record)

    def _add(self, record: Mapping[str, Any]) -> None:
        kind, phase, step = record["event"], record.get("phase", ""), record.get("step")
        if kind == "step":
            for name in ("loss", "lr", "grad_norm", "tokens_per_s", "memory_gb"):
                self._writer.add_scalar(f"{phase}/{name}", record[name], step)
        elif kind == "validation":
            self._writer.add_scalar(f"{phase}/validation_loss", record["loss"], step)
        # What a rollout tells is among the figures of its steps.
        for name, value in record.get("figures", {}).items() if kind in ("step", "validation") else ():
            which = name if kind == "step" else f"validation_{name}"
            self._writer.add_scalar(f"{phase}/{which}", value, step)

    def close(self) -> None:
        """Writes what is still held back."""
        with writing("tracker's log", self._folder):
            self._writer.close()
