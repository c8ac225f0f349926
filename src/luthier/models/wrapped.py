"""A model inside PEFT's wrapper: put there, its adapter written and read strictly, and the plain model taken out again.

The files are PEFT's own, `adapter_model.safetensors` and `adapter_config.json`, with bytes that repeat: PEFT's own save
writes sets in any order, and a model card with paths of this machine.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..core.errors import ModelError, Problem
from ..core.files import write_atomic
from .weights import check_keys, read_tensors, write_tensors

__all__ = ["adapter_state", "place", "read_adapter", "saved_config", "task_type", "unwrap", "wrap", "write_adapter"]

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def wrap(model: nn.Module, config: Any) -> nn.Module:
    """The model with the adapter that a PEFT configuration describes. Errors: ModelError for one that has one."""
    from peft import get_peft_model

    if hasattr(model, "peft_config"):
        raise ModelError(
            "the model already carries a PEFT adapter",
            remedy="fold the earlier adapter in first: adaptation.merge(model)",
        )
    with warnings.catch_warnings():
        # PEFT asks for an attribute that transformers renamed; a user can do nothing about it.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        adapted: nn.Module = get_peft_model(model, config)
    return adapted


def unwrap(model: nn.Module) -> nn.Module:
    """The plain model with the adapter folded in, and a trained head in the place of the head; `model` is used up."""
    plain: nn.Module = model.merge_and_unload()  # type: ignore[operator]
    if hasattr(plain, "peft_config"):
        del plain.peft_config  # PEFT leaves it behind, and everyone would take the model for an adapted one
    return plain


def task_type(model: Any, head: Any) -> str | None:
    """PEFT's name of the task, by which it wraps a model; None, the plain wrapper, for one that fills masks."""
    if not model.can_generate() and model.get_output_embeddings() is not None:
        return None
    return "SEQ_CLS" if head else "CAUSAL_LM"


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors, and a trained head's, by PEFT's names."""
    from peft import get_peft_model_state_dict

    state: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return state


def saved_config(model: nn.Module) -> dict[str, Any]:
    """The adapter's configuration as plain JSON values, lists in order."""
    wrapped: Any = model
    config: dict[str, Any] = wrapped.peft_config["default"].to_dict() | {"inference_mode": True}
    if config.get("modules_to_save") is not None:
        config["modules_to_save"] = set(config["modules_to_save"])  # PEFT adds names of its own, twice
    return {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}


def write_adapter(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Writes both files."""
    write_tensors(folder / WEIGHTS, state, {"format": "pt"})
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def read_adapter(
    folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Tensor]:
    """The tensors in `folder`, whose keys and shapes must be those of `state`.

    names: what must be alike in the two configurations, since it is no key of the weights (another alpha would load
    without a word and be wrong), with the recipe's words for it. Errors: ModelError for whatever differs.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(
            "the adapter's configuration is absent", where=str(path), remedy="give the folder that save wrote"
        )
    found = json.loads(path.read_text(encoding="utf-8"))
    problems = [
        Problem(
            f"the adapter was trained with {ours} {found.get(theirs)}, not {config.get(theirs)}",
            str(path),
            remedy=f"set {ours}: {found.get(theirs)}",
        )
        for theirs, ours in names.items()
        if found.get(theirs) != config.get(theirs)
    ]
    if problems:
        raise ModelError(problems)
    tensors = read_tensors(folder / WEIGHTS)
    # Before PEFT loads: it raises a bare KeyError for a head that is missing.
    check_keys(tensors, state, folder / WEIGHTS)
    return tensors


def place(model: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Has PEFT put the tensors into the model. Errors: ModelError where it did not place them all."""
    from peft import set_peft_model_state_dict

    result = set_peft_model_state_dict(model, dict(state))
    missing = [key for key in result.missing_keys if key in state or "modules_to_save" in key]
    if missing or result.unexpected_keys:
        raise ModelError(
            f"PEFT did not place all weights: missing {missing[:5]}, unexpected {result.unexpected_keys[:5]}",
            where=str(folder / WEIGHTS),
            remedy="load it into the model that it was trained on",
        )
