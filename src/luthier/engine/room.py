"""How a phase fits into the memory that the machine has: tokens in a micro-batch, and whether blocks are recomputed.

What decides is the estimate from shapes (engine/estimate.py) beside all the memory of the device, or of the machine
and the limits of its control groups: what is free at the moment would decide otherwise for a run that goes on.
The usual micro-batch is the step's budget on CUDA, and where the rows of a step are learned together; elsewhere at most
4,096 tokens: more is no faster there. One that
does not fit is cut into equal parts; blocks are recomputed where not even a small one would fit without.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import psutil
import torch
from torch import nn

from ..core.component import describe
from ..core.errors import ModelError
from ..core.recipe import Machine, Phase
from ..models.attention import transformer_of
from ..models.recompute import can_recompute
from .estimate import Memory, estimate
from .remembered import place, remember, remembered

__all__ = ["USUAL_TOKENS", "Room", "make_room", "memory_of"]

USUAL_TOKENS = 4096
"""The largest micro-batch that is made without being asked for on anything but CUDA."""
SMALL_TOKENS = 1024
"""Smaller ones are slower, and where they do not fit recomputing costs less."""
SHARE, CUDA_SHARE = 0.7, 0.85
"""Of the memory, what training may take by the estimate. Tensors take what it says; holes in the C library's heap made
a process 1.2 to 1.4 times as large (12 blocks, 1,024 to 4,096 tokens), and the system needs some too."""


@dataclass(frozen=True)
class Room:
    """What was chosen and why, and the estimate for it."""

    micro_tokens: int
    gradient_checkpointing: bool
    because: str
    memory: Memory
    what: str
    """The model, what trains it, dtype and machine, by which the size that fits is remembered."""
    note: str = ""
    """Why the micro-batch is smaller than the estimate allows; empty where it is not."""

    def learned(self, micro_tokens: int) -> None:
        """Remembers a micro-batch that memory running out has led to."""
        remember(self.what, micro_tokens)


def make_room(
    model: nn.Module,
    phase: Phase,
    machine: Machine,
    device: torch.device,
    lengths: Sequence[int],
    *,
    validates: bool,
) -> Room:
    """The room for training an adapted `model` on rows of so many tokens.

    Errors: ModelError where gradient checkpointing is asked for and the model has no blocks to recompute.
    """
    longest, total = max(lengths), memory_of(device)
    budget = phase.per_step.tokens or (phase.per_step.rows or 1) * longest
    keeps_best = validates and phase.watch.keep_best and device.type == "cpu"

    @cache
    def needed(tokens: int, recomputes: bool) -> Memory:
        size = max(min(tokens, budget), longest)
        return estimate(
            model,
            phase.adaptation,
            phase.optimizer,
            tokens=size,
            lengths=lengths,
            keeps_best=keeps_best,
            recomputes=recomputes,
            averages=phase.objective.averaging is not None,
        )

    def fits(tokens: int, recomputes: bool) -> bool:
        return needed(tokens, recomputes).total <= (CUDA_SHARE if device.type == "cuda" else SHARE) * total

    whole = device.type == "cuda" or phase.objective.coupled
    most = budget if whole else min(phase.per_step.tokens or USUAL_TOKENS, USUAL_TOKENS)
    usual = machine.micro_tokens or most
    least = usual if machine.micro_tokens else min(usual, max(longest, SMALL_TOKENS))
    recomputes, because = _recomputes(model, machine, fits(least, False), needed(least, False).total, total)
    parts = range(1, max(1, usual // least) + 1)
    # The fewest parts that fit; if none do, the smallest: running out of memory then says so.
    at = bisect_left(parts, True, key=lambda count: fits(ceil(usual / count), recomputes))
    micro = ceil(usual / parts[min(at, len(parts) - 1)])
    what = _what(model, phase, device, total, recomputes)
    known = remembered(what) if machine.micro_tokens is None else None
    note = ""
    if known is not None and known < micro:
        micro = known
        note = f"micro-batches of {micro} tokens, since memory ran out with larger ones before (as {place()} remembers)"
    return Room(micro, recomputes, because, needed(micro, recomputes), what, note)


def _recomputes(model: nn.Module, machine: Machine, fits: bool, needed: int, total: int) -> tuple[bool, str]:
    asked = machine.gradient_checkpointing
    there = asked is not False and can_recompute(model)
    if asked is True and not there:
        raise ModelError(
            f"{type(transformer_of(model)).__name__} does not support gradient checkpointing",
            where="machine.gradient_checkpointing",
            expected="a model whose blocks can be computed again",
            remedy="leave it out, and lower max_length or machine.micro_tokens where memory is short",
        )
    if asked != "auto":
        return asked, "named in the recipe"
    beside = f"{needed / 1e9:.1f} of {total / 1e9:.1f} GB without it"
    if not fits and not there:
        beside += "; this model does not support it"
    return there and not fits, beside


def _what(model: nn.Module, phase: Phase, device: torch.device, total: int, recomputes: bool) -> str:
    inner = transformer_of(model)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = [
        f"{type(inner).__name__} with {sum(p.numel() for p in inner.parameters()):,} weights",
        *(json.dumps(describe(part), sort_keys=True) for part in (phase.objective, phase.adaptation, phase.optimizer)),
        *sorted({str(p.dtype).removeprefix("torch.") for p in inner.parameters()}),
        f"{name} with {total / 1e9:.1f} GB",
    ]
    return ", ".join(parts + ["gradient checkpointing"] * recomputes)


# ---- the machine -----------------------------------------------------------------------------------------------------


def memory_of(device: torch.device) -> int:
    """Bytes of memory that the device has in all; off CUDA the machine's, or a control group's limit if lower."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return min([int(psutil.virtual_memory().total), *_group_limits()])


def _group_limits(root: Path = Path("/")) -> Iterator[int]:
    """The limits of this process's control group and those above it (Linux; containers set them), in bytes."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        at = root / "sys/fs/cgroup" / ("memory" if kinds else "")
        own = at / path.lstrip("/")
        # Inside a container the path may be the host's, which is not there; the container's own limit lies at the root.
        for folder in (own, *own.parents):
            try:
                limit = (folder / ("memory.limit_in_bytes" if kinds else "memory.max")).read_text(encoding="ascii")
            except OSError:
                limit = "max"
            if limit.strip() != "max":
                yield int(limit)
            if folder == at:
                break
