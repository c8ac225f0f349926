"""What a run is computed on: device, the dtype that pays there, threads, and memory that stays."""

from __future__ import annotations

import ctypes
import gc
import platform
import time
from dataclasses import dataclass

import torch

from ..core.errors import MachineError
from ..core.recipe import Machine

__all__ = ["Compute", "choose", "keep_memory", "product_rate", "release_memory"]


@dataclass(frozen=True)
class Compute:
    """The chosen device and dtype, and why; recorded in the manifest and reused when a run goes on."""

    device: torch.device
    dtype: torch.dtype
    because: str


def choose(machine: Machine, recorded: str | None = None) -> Compute:
    """The device and dtype of a run.

    dtype "auto": bfloat16 where a short matrix product is faster in it than in float32, else float32. `recorded`: the
    dtype an interrupted run had chosen; it is kept, since a different one would change every number.
    Errors: MachineError for a device that is not there.
    """
    device = _device(machine.device)
    if machine.dtype != "auto":
        return Compute(device, getattr(torch, machine.dtype), "named in the recipe")
    if recorded is not None:
        return Compute(device, getattr(torch, recorded), "as when this run began")
    if device.type == "mps":
        return Compute(device, torch.float32, "bf16 products are not everywhere exact on MPS")
    half, single = product_rate(torch.bfloat16, device), product_rate(torch.float32, device)
    chosen = torch.bfloat16 if half > 1.3 * single else torch.float32
    return Compute(device, chosen, f"bf16 products run {half / single:.1f} times as fast as float32 here")


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    there = {"cpu": 1, "mps": int(torch.backends.mps.is_available()), "cuda": torch.cuda.device_count()}
    if int(index or 0) >= there[kind]:
        raise MachineError(
            f"the device '{name}' is not there",
            where="machine.device",
            expected=", ".join(
                kind if count == 1 else f"{kind}:0 to {kind}:{count - 1}" for kind, count in there.items() if count
            ),
            remedy="set machine.device to auto",
        )
    return torch.device(name)


def product_rate(dtype: torch.dtype, device: torch.device, seconds: float = 0.03) -> float:
    """Operations a second of a square product (2 x size^3 each), the best of some repetitions."""
    size = 512 if device.type == "cpu" else 4096  # a small one tells of a GPU only how long it takes to be called
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(size, size, generator=generator).to(device, dtype)
    torch.mm(a, a)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, a)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def keep_memory() -> bool:
    """Tells glibc to keep large blocks instead of returning them to the system after each tensor; True if it did.

    Without this a training step touches the same gigabytes anew again and again, at the speed of page faults.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(mmap_threshold, 1 << 30) and libc.mallopt(trim_threshold, 2**31 - 1))


def release_memory() -> None:
    """Gives freed memory back to the system, so that a peak measured next starts from what is held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
