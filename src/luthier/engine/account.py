"""What a phase's training came to: the figures that the manifest keeps, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..core.contracts import Row
from ..core.recipe import Phase
from .fit import FitResult
from .meter import peak_memory_gb
from .room import Room

__all__ = ["times", "training_account"]


def times(result: FitResult) -> str:
    """What the steps' time went to, the wait for data among it."""
    names, seconds = {"data": "waiting for data"}, result.seconds or 1.0
    shares = (f"{names.get(name, name)} {spent / seconds:.1%}" for name, spent in result.parts.items())
    return f"{result.steps} step{'s' if result.steps != 1 else ''} in {result.seconds:,.1f} s: " + ", ".join(shares)


def training_account(
    phase: Phase,
    model: torch.nn.Module,
    result: FitResult,
    rows: Sequence[Row],
    lost: Mapping[str, int],
    room: Room,
    device: torch.device,
) -> dict[str, Any]:
    """Plain values for the manifest; `lost`: how many rows encoding truncated, dropped, or found untrained."""
    trained = sum(p.numel() for group in phase.adaptation.groups(model) for _, p in group.parameters)
    return {
        "steps": result.steps,
        "epochs": round(result.tokens / sum(row.repeat * len(row.ids) for row in rows), 2),
        "rows": len(rows),
        "tokens": result.tokens,
        "supervised": result.supervised,
        "seconds": round(result.seconds, 2),
        "parts": {name: round(seconds, 2) for name, seconds in result.parts.items()},
        "waiting": round(result.waiting, 4),
        "tokens_per_s": round(result.tokens_per_s, 1),
        "peak_memory_gb": round(peak_memory_gb(device), 3),
        "trainable": trained,
        "parameters": sum(p.numel() for p in model.parameters()),
        "truncated": lost["truncated"],
        "dropped": lost["dropped"],
        "untrained": lost["untrained"],
        "best_step": result.best_step,
        "best_loss": result.best_loss,
        "stopped": result.stopped,
        "micro_tokens": result.micro_tokens,
        "gradient_checkpointing": {"on": room.gradient_checkpointing, "because": room.because},
    }
