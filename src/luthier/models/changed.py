"""A loaded model made larger or smaller: rows for new tokens, or some of its layers, where a student begins.

Source of students: Sanh et al. 2019 (DistilBERT, arXiv:1910.01108), section 3: every second layer. Errors:
ModelError for layers that the model has not, and for a model whose layers are not one list.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..core.errors import ModelError
from .attention import backbone_of, transformer_of
from .load import Loaded
from .vocabulary import grow

__all__ = ["keep_layers", "layer_list", "with_tokens"]


def keep_layers(loaded: Loaded, numbers: Sequence[int]) -> Loaded:
    """The model with these layers alone (from 0), in this order; embeddings and head stay. Its weights are copies.

    It is built from its own smaller configuration, so that what is exported loads as what was trained.
    """
    model = loaded.model
    inner = transformer_of(model)
    name, count = layer_list(inner)
    beyond = [number for number in numbers if number >= count]
    if beyond:
        raise ModelError(
            f"the model has {count} layers, 0 to {count - 1}, and keep_layers names {beyond[0]}",
            where=loaded.description["source"],
            expected=f"numbers from 0 to {count - 1}",
        )
    config = copy.deepcopy(inner.config)
    text = config.get_text_config()
    text.num_hidden_layers = len(numbers)
    if getattr(text, "layer_types", None) is not None:
        text.layer_types = [text.layer_types[number] for number in numbers]
    small = type(inner)._from_config(config, dtype=inner.dtype)
    small.load_state_dict(_renumbered(inner.state_dict(), name + ".", numbers))
    if hasattr(inner, "generation_config"):
        small.generation_config = inner.generation_config
    small = small.to(inner.device).eval()
    kept = f"layers {', '.join(map(str, numbers))} of the model's {count}"
    changed = {
        "parameters": sum(parameter.numel() for parameter in small.parameters()),
        "notes": [*loaded.description["notes"], kept],
    }
    return replace(loaded, model=small, description={**loaded.description, **changed})


def layer_list(model: Any) -> tuple[str, int]:
    """The name of the list of a transformers model's layers, and how many it has."""
    count = int(model.config.get_text_config().num_hidden_layers)
    inside = {id(module) for module in backbone_of(model).modules()}
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and id(module) in inside
    ]
    if len(found) != 1:
        raise ModelError(
            f"{type(model).__name__} has {len(found)} lists of {count} layers",
            expected="one list of layers, of which some can be kept",
            remedy="leave keep_layers (and layers of a teacher) out, and begin with a smaller model",
        )
    return found[0], count


def _renumbered(weights: Mapping[str, Tensor], prefix: str, numbers: Sequence[int]) -> dict[str, Tensor]:
    found = {name: value for name, value in weights.items() if not name.startswith(prefix)}
    for new, old in enumerate(numbers):
        start = f"{prefix}{old}."
        own = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
        found |= {f"{prefix}{new}.{name}": value for name, value in own.items()}
    return found


def with_tokens(loaded: Loaded, tokens: Sequence[str]) -> Loaded:
    """The model with rows for new tokens, and its description brought up to that."""
    if not tokens:
        return loaded
    grown = grow(loaded.model, loaded.tokenizer, tokens)
    changed = {
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "vocabulary": len(loaded.tokenizer),
        "notes": [*loaded.description["notes"], grown.note],
    }
    return replace(loaded, description={**loaded.description, **changed})
