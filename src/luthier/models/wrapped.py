"""A model inside PEFT's wrapper: put there, its adapter written and read strictly, and the plain model taken out again.

The files are PEFT's own, `adapter_model.safetensors` and `adapter_config.json`, with bytes that repeat: PEFT's own save
writes sets in any order, and a model card with paths of this machine.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ModelError, Problem, first_line, nearest
from ..core.files import write_atomic
from .linears import residual_writers
from .targets import EVERY, head_modules, is_transposed, linear_targets, targeted
from .weights import check_keys, read_tensors, write_tensors

__all__ = [
    "adapter_state",
    "config_of",
    "own_settings",
    "place",
    "read_adapter",
    "saved_config",
    "task_type",
    "unwrap",
    "wrap",
    "write_adapter",
]

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
        try:
            adapted: nn.Module = get_peft_model(model, config)
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"PEFT cannot put {config.peft_type.value.lower()} into this model: {first_line(error)}",
                remedy="choose other settings or targets",
            ) from error
    return adapted


def unwrap(model: nn.Module) -> nn.Module:
    """The plain model with the adapter folded in, and a trained head in the place of the head; `model` is used up.

    Errors: ModelError for an adapter that is no change of weights.
    """
    from peft.utils.other import ModulesToSaveWrapper

    if not hasattr(model, "merge_and_unload"):
        raise ModelError("an adapter that changes no weights cannot be folded into them")
    # Most of PEFT's methods stumble over a head that is more than one layer, so it is put back first.
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ModulesToSaveWrapper):
                setattr(
                    parent,
                    name,
                    child.modules_to_save[child.active_adapters[0]] if child.active_adapters else child.original_module,
                )
    plain: nn.Module = model.merge_and_unload()  # type: ignore[operator]
    if hasattr(plain, "peft_config"):
        del plain.peft_config  # PEFT leaves it behind, and everyone would take the model for an adapted one
    return plain


def task_type(model: Any, head: Any) -> str | None:
    """PEFT's name of the task, by which it wraps a model; None, the plain wrapper, for one that fills masks."""
    if head:
        return "SEQ_CLS"
    if model.can_generate():
        return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    return "FEATURE_EXTRACTION" if model.get_output_embeddings() is None else None


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
    folder: Path,
    state: Mapping[str, Tensor],
    config: Mapping[str, Any],
    names: Mapping[str, str],
    units: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """The tensors in `folder`, whose keys and shapes must be those of `state`.

    names: what must be alike in the two configurations, since it is no key of the weights (another alpha would load
    without a word and be wrong), with the recipe's words for it; what a file of another version of PEFT does not name
    is taken as it is here. units: what one in the recipe is in the configuration, where that is another number. Errors:
    ModelError for whatever differs.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(
            "the adapter's configuration is absent", where=str(path), remedy="give the folder that save wrote"
        )
    found, here = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(config))

    def told(value: Any, name: str) -> Any:
        unit = (units or {}).get(name)
        return value if unit is None else f"{value / unit:g}"

    problems = [
        Problem(
            f"the adapter was trained with {ours} {told(found[theirs], theirs)}, not {told(here.get(theirs), theirs)}",
            str(path),
            remedy=f"set {ours}: {told(found[theirs], theirs)}",
        )
        for theirs, ours in names.items()
        if theirs in found and found[theirs] != here.get(theirs)
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

    set_peft_model_state_dict(model, dict(state))
    there = adapter_state(model)
    absent = [name for name, tensor in state.items() if not torch.equal(there[name].cpu(), tensor.cpu())]
    if absent:
        raise ModelError(
            f"PEFT did not place {len(absent)} weights, such as {absent[0]}",
            where=str(folder / WEIGHTS),
            remedy="load it into the model that it was trained on",
        )


def config_of(
    model: Any,
    method: str,
    targets: str | Sequence[str] | None,
    layers: Sequence[int] | None,
    *,
    given: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> Any:
    """PEFT's configuration of a method for this model: `given` by the user, `fixed` by us, the rest PEFT's defaults.

    targets: as linear_targets; None: all linear layers, for ia3 those that PEFT names for the model's family.
    Errors: ModelError for a setting that the method does not have or that PEFT does not take.
    """
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[method.upper()]]
    known = {field.name for field in fields(kind)}
    head = head_modules(model)
    if targets is None:
        targets = _ia3_targets(model) if method == "ia3" else EVERY
    names = linear_targets(model, targets, layers)
    ours = {
        "target_modules": names,
        "modules_to_save": head or None,
        "task_type": task_type(model, head),
        "fan_in_fan_out": is_transposed(model, names),
        "save_projection": True,
        **fixed,
    }
    if method == "ia3":
        last = {id(forward) for _, _, forward in residual_writers(model)}
        ours["feedforward_modules"] = [
            name for name in names if all(id(module) in last for module in targeted(model, [name]))
        ]
    own = known - _shared_fields() - set(ours)
    for name in given:
        if name not in own:
            near = nearest(name, sorted(own))
            raise ModelError(
                f"{method} has no setting '{name}' to choose",
                expected="settings among " + ", ".join(sorted(own)),
                remedy=f"did you mean '{near}'?" if near else "remove it",
            )
    try:
        return kind(**{name: value for name, value in ours.items() if name in known}, **given)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"PEFT does not take these settings for {method}: {first_line(error)}",
            remedy=f"see peft.{kind.__name__} for what they mean",
        ) from error


def own_settings(config: Mapping[str, Any]) -> list[str]:
    """The names in a configuration that say how its method computes: not where, nor how its weights began."""
    apart = {"feedforward_modules", "init_weights", "modules_to_save", "target_modules"}
    return sorted(config.keys() - _shared_fields() - apart)


def _shared_fields() -> set[str]:
    """What every PEFT configuration has: where it belongs, and not how it learns."""
    from peft import PeftConfig

    return {field.name for field in fields(PeftConfig)} | {"layers_to_transform", "layers_pattern", "exclude_modules"}


def _ia3_targets(model: Any) -> list[str]:
    """Keys, values and the last feed-forward layer. Errors: ModelError for a family that PEFT does not know."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as KNOWN

    family = model.config.model_type
    if family not in KNOWN:
        raise ModelError(
            f"PEFT does not say which layers of a {family} model ia3 scales",
            expected="targets: keys, values and the last layer of a feed-forward part, by their names",
            remedy="name them, such as targets: [k_proj, v_proj, down_proj]",
        )
    return list(KNOWN[family])
