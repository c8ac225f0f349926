"""Folds a PEFT adapter's weights into its base, strictly: no key of the file unused, none absent."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, first_line, out_of_memory
from .files import ADAPTER, read_json
from .quantized import read_bits, rounded
from .source import weight_files
from .weights import refuse_infinite

__all__ = ["fold_adapter"]


def fold_adapter(model: Any, folder: Path) -> tuple[Any, frozenset[str]]:
    """The plain model with the adapter in `folder` folded in, and the names of parameters it brought whole (heads).

    One that was trained over a base in few bits is folded into the weights that these stand for.
    The arithmetic is done in the model's dtype; hand in float32 and cast afterwards.
    Errors: ModelError for missing or unexpected keys (PEFT itself only warns), and for what cannot be folded in.
    """
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    (file,) = weight_files(folder, adapter=True)
    _refuse_kind(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bits = read_bits(folder)
            model = model if bits is None else rounded(model, bits)
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = False  # otherwise nothing is trainable, and the adapter's keys cannot be told
            adapted = get_peft_model(model, config)
            given = load_file(file)
            refuse_infinite(given.items(), folder)
            outcome = set_peft_model_state_dict(adapted, given)
    except ModelError:
        raise
    except Exception as error:  # PEFT raises ValueError, RuntimeError and TypeError for what does not fit
        if out_of_memory(error):
            raise
        raise _misfit(folder, first_line(error)) from error
    expected = _adapter_keys(adapted)
    missing = sorted(set(outcome.missing_keys) & expected)
    unexpected = sorted(outcome.unexpected_keys)
    if missing or unexpected:
        lists = [
            f"{len(names)} {what}: {', '.join(names[:6])}"
            for what, names in (("missing", missing), ("not used", unexpected))
            if names
        ]
        raise _misfit(folder, "; ".join(lists))
    if not hasattr(adapted, "merge_and_unload"):
        raise ModelError(
            f"an adapter of the kind {config.peft_type} cannot be folded into weights",
            where=str(folder),
            expected="an adapter that changes weights, such as LoRA",
            remedy="start from its base instead",
        )
    brought = frozenset(
        name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        for name, _ in adapted.named_parameters()
        if ".modules_to_save.default." in name
    )
    plain = adapted.merge_and_unload()
    if hasattr(plain, "peft_config"):
        del plain.peft_config
    for parameter in plain.parameters():
        parameter.requires_grad_(True)
    return plain, brought


def _refuse_kind(folder: Path) -> None:
    from peft import PeftType

    kind = read_json(folder / ADAPTER).get("peft_type")
    if kind not in list(PeftType):
        raise ModelError(
            f"the installed peft knows no adapter of the kind '{kind}'",
            where=str(folder / ADAPTER),
            expected="a peft_type such as LORA",
            remedy="correct it, upgrade peft, or start from the adapter's base",
        )


def _adapter_keys(adapted: Any) -> set[str]:
    """Parameters that belong to the adapter: those that PEFT leaves trainable."""
    return {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}


def _misfit(folder: Path, found: str) -> ModelError:
    return ModelError(
        f"the adapter does not fit its base; {found}",
        where=str(folder),
        expected="the weights of every adapted module, and no others",
        remedy="check base_model_name_or_path in adapter_config.json, and the labels of a classification head",
    )
