"""What a run is computed on: device, the dtype that pays there, threads, and memory that stays."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.errors import MachineError
from ..core.recipe import Machine

__all__ = ["Compute", "allocator", "choose", "keep_memory", "product_rate", "rates", "release_memory"]


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
    half, single = rates(device)
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


def rates(device: torch.device) -> tuple[float, float]:
    """The rates of products in bfloat16 and float32, measured so that other work on the machine does not decide.

    The two take turns, so that both see quiet moments, and on one thread: where another program holds a core, a product
    of several waits for its slowest, which was seen to make bfloat16 look five times slower than float32.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        turns = [[product_rate(dtype, device, 0.01) for dtype in (torch.bfloat16, torch.float32)] for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    half, single = (max(rates) for rates in zip(*turns, strict=True))
    return half, single


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


def allocator() -> str:
    """Whose malloc this process uses: glibc, a library loaded before it (jemalloc, tcmalloc, mimalloc), or system."""
    if platform.libc_ver()[0] != "glibc":
        return "system"
    library = _malloc_library()
    known = (name for name in ("jemalloc", "tcmalloc", "mimalloc") if name in library)
    return next(known, "glibc" if library.startswith(("libc.", "libc-")) else "system")


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = (2**31 - 1, 4 * 2**20 * ctypes.sizeof(ctypes.c_long))
"""Bytes of a block that comes from the heap: the most that mallopt's argument holds, and all that some versions of
glibc take (DEFAULT_MMAP_THRESHOLD_MAX, 32 MiB on 64 bits)."""


class _Place(ctypes.Structure):
    """Dl_info of dlfcn.h."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("at", ctypes.c_void_p),
    ]


def _malloc_library() -> str:
    """The file name of the library that gives this process its malloc (glibc's dladdr)."""
    process, place = ctypes.CDLL(None), _Place()
    process.dladdr(ctypes.cast(process.malloc, ctypes.c_void_p), ctypes.byref(place))
    return Path(os.fsdecode(place.file or b"")).name


def keep_memory() -> bool:
    """Tells glibc to keep large blocks instead of returning them to the system after each tensor; True if it did.

    Without this a training step touches the same gigabytes anew again and again, at the speed of page faults. An
    allocator that was loaded before glibc's has its own ways and is left alone.
    """
    if allocator() != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # -1: the heap's free end is never given back (mallopt(3)).
    return bool(mallopt(_TRIM_THRESHOLD, -1)) and any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST)


def release_memory() -> None:
    """Gives freed memory back to the system, so that a peak measured next starts from what is held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
