"""Trained weights on disk: written in safetensors, read back strictly.

A key that is missing, unexpected or of another shape is an error that names it: a loader that shrugs at keys leaves
parts of the model at random values and says nothing (peft#1932, peft#2772).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ModelError, Problem
from ..core.files import file_aside

__all__ = [
    "check_keys",
    "read_tensors",
    "read_weights",
    "refuse_infinite",
    "weights_of",
    "write_tensors",
    "write_weights",
]

FILE = "trained.safetensors"


def weights_of(model: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """The parameters called `names`, without their gradients' graph, in the model's order."""
    return {name: parameter.data for name, parameter in model.named_parameters() if name in names}


def write_weights(folder: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes `trained.safetensors` in `folder`; `about` is kept in the file under one key, so that bytes repeat."""
    write_tensors(folder / FILE, tensors, {"luthier": json.dumps(about, sort_keys=True)})


def read_weights(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Copies `trained.safetensors` of `folder` into the tensors `into`, whose keys and shapes must be those of the
    file.

    Errors: ModelError where the file is absent or torn, and for every key or shape that differs.
    """
    path = folder / FILE
    found = read_tensors(path)
    check_keys(found, into, path)
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(found[name])


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file with its keys sorted, whole or not at all; the folder is made where it is absent.

    Errors: MachineError where the system refuses.
    """
    from safetensors.torch import save_file

    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    with file_aside(path) as aside:
        save_file(plain, aside, metadata=metadata)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Errors: ModelError where it is absent or cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(
            "the file of trained weights is absent",
            where=str(path),
            expected=f"{path.name}, as the adaptation's save wrote it",
            remedy="train the phase again, or give the folder that holds the weights",
        )
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ModelError(
            f"the file of trained weights cannot be read: {error}",
            where=str(path),
            remedy="the file is torn or no safetensors file; take the checkpoint before it",
        ) from error
    return tensors


def check_keys(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Errors: ModelError with one problem each for missing keys, unexpected keys and differing shapes."""
    problems: list[Problem] = []
    remedy = "load it into the model and with the adaptation's parameters that it was trained with"
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing:
        problems.append(Problem(f"{len(missing)} weights are missing: {_few(missing)}", str(path), remedy=remedy))
    if unexpected:
        problems.append(
            Problem(
                f"{len(unexpected)} weights have no place in the model: {_few(unexpected)}", str(path), remedy=remedy
            )
        )
    shapes = [
        f"{name} is {list(found[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(Problem(f"{len(shapes)} weights have another shape: {_few(shapes)}", str(path), remedy=remedy))
    if problems:
        raise ModelError(problems)


def refuse_infinite(tensors: Iterable[tuple[str, Tensor]], folder: Path) -> None:
    """Errors: ModelError naming the weights that hold NaN or an infinity; every loss and answer would be NaN."""
    broken = [name for name, tensor in tensors if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if broken:
        raise ModelError(
            f"{len(broken)} weights hold numbers that are not finite: {_few(broken)}",
            where=str(folder),
            expected="finite numbers",
            remedy="copy or download the folder again; a training that diverged may have left it so",
        )


def _few(items: Iterable[str], most: int = 5) -> str:
    items = list(items)
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest
