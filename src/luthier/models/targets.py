"""Which linear layers of a model an adapter changes, and which modules are trained whole beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from ..core.errors import ModelError, nearest
from .groups import classification_head
from .heads import layers
from .linears import is_linear

__all__ = ["EVERY", "head_modules", "is_transposed", "linear_targets", "targeted"]

EVERY = "all-linear"
"""In place of names: every linear layer but the output layer and a classification head."""


def linear_targets(model: Any, targets: str | Sequence[str], chosen_layers: Sequence[int] | None = None) -> list[str]:
    """What PEFT is to match: ends of names where those mean the same modules in all layers, else whole names.

    targets: EVERY, or names of linear layers or their ends. chosen_layers: only in these blocks, counted from 0,
    negative ones from the top. Errors: ModelError for names or layers that the model does not have, and for an output
    layer that is tied to the embeddings.
    """
    head = head_modules(model)
    linear = {
        name: module
        for name, module in model.named_modules()
        if is_linear(module) and not any(_ends(name, part) or f".{part}." in f".{name}." for part in head)
    }
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    inner = [name for name, module in linear.items() if module is not output]
    chosen = inner if isinstance(targets, str) else _named(targets, linear, inner)
    if chosen_layers is not None:
        chosen = _in_layers(model, chosen, chosen_layers)
    if output is not None and any(linear[name] is output for name in chosen):
        _refuse_tied(model)
    ends = {name.rpartition(".")[2] for name in chosen}
    alike = {name for name, _ in model.named_modules() if any(_ends(name, end) for end in ends)}
    return sorted(ends if alike == set(chosen) else chosen)


def targeted(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The modules that PEFT matches with these names or ends of names."""
    return [module for name, module in model.named_modules() if any(_ends(name, end) for end in names)]


def is_transposed(model: nn.Module, names: Sequence[str]) -> bool:
    """Whether the targets are GPT-2's Conv1D; PEFT would find out by itself, layer by layer, and warn."""
    return all(isinstance(module, Conv1D) for module in targeted(model, names))


def head_modules(model: nn.Module) -> list[str]:
    """The outermost modules that hold a classification head and nothing else; none for a language model."""
    wanted = set(classification_head(model))
    found: list[str] = []
    for name, module in model.named_modules():
        inside = {f"{name}.{inner}" for inner, _ in module.named_parameters()}
        if name and inside and inside <= wanted and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


def _named(targets: Sequence[str], linear: Iterable[str], inner: Iterable[str]) -> list[str]:
    names = list(linear)
    unknown = [target for target in targets if not any(_ends(name, target) for name in names)]
    if unknown:
        known = sorted({name.rpartition(".")[2] for name in inner})
        near = nearest(unknown[0], known)
        raise ModelError(
            "no linear layer of the model is called " + ", ".join(f"'{name}'" for name in unknown),
            expected="names among " + ", ".join(known) + ", or longer ends of names",
            remedy=f"did you mean '{near}'?" if near else f"targets: {EVERY} takes all of them",
        )
    return [name for name in names if any(_ends(name, target) for target in targets)]


def _in_layers(model: nn.Module, names: list[str], numbers: Sequence[int]) -> list[str]:
    blocks = [name for name, _ in layers(model)]
    wrong = [number for number in numbers if not -len(blocks) <= number < len(blocks)]
    if wrong:
        raise ModelError(
            f"layers: the model has no layer {wrong[0]}",
            expected=f"numbers from {-len(blocks)} to {len(blocks) - 1}",
        )
    inside = tuple(f"{blocks[number]}." for number in numbers)
    chosen = [name for name in names if name.startswith(inside)]
    if not chosen:
        raise ModelError(f"none of the targets lies in the layers {list(numbers)}")
    return chosen


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _refuse_tied(model: nn.Module) -> None:
    inner: Any = model
    output, table = inner.get_output_embeddings(), inner.get_input_embeddings()
    if output.weight is table.weight:
        raise ModelError(
            "the output layer is a target and is tied to the embeddings: merging would change both",
            expected="targets without the output layer",
            remedy=f"take it out of targets, or use targets: {EVERY}, which leaves it alone",
        )
