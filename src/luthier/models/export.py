"""Writes a model as a Hugging Face folder that plain transformers loads, and reads it back.

The folder is written aside, synced and renamed: what lies under its name is whole, whenever the machine stops.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ModelError
from ..core.files import folder_aside
from .cast import dtypes_in
from .load import Loaded, Task, load_model, quiet
from .pooling import Pooling, write_pooling
from .tokens import stop_tokens

__all__ = ["reload", "save_model"]


def save_model(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    generation: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    pooling: Pooling | None = None,
    left_out: Set[str] = frozenset(),
) -> list[Path]:
    """Writes weights (safetensors), configuration, tokenizer, chat template and generation settings; gives the files.

    dtype: of the written floating-point weights; None keeps the model's. generation: max_new_tokens, temperature (0 is
    greedy), top_p. pooling: what sentence-transformers is to make vectors by; None: it is told nothing. left_out: names
    of weights that are not written.
    An existing folder of that name is replaced.
    Errors: ModelError for a model that still carries an adapter; MachineError where the disk refuses.
    """
    if hasattr(model, "peft_config") or not hasattr(model, "save_pretrained"):
        raise ModelError(
            f"a {type(model).__name__} cannot be exported as it is",
            expected="a plain transformers model",
            remedy="merge the adaptation first",
        )
    with folder_aside(folder, "model") as aside, quiet():
        _write(model, tokenizer, aside, generation, {n: w for n, w in _cast(model, dtype).items() if n not in left_out})
        if dtype is not None:
            _name_dtype(aside / "config.json", dtype)
        if pooling is not None:
            write_pooling(aside, pooling, int(model.config.get_text_config().hidden_size))
    return sorted(file for file in folder.iterdir() if file.is_file())


def reload(folder: Path, task: Task, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Loaded:
    """The exported model, loaded as anyone would. Errors: ModelError where anything is missing from it."""
    loaded = load_model(str(folder), task, dtype=dtype, device=device)
    if loaded.fresh:
        raise ModelError(
            f"the exported folder lacks {', '.join(sorted(loaded.fresh))}",
            where=str(folder),
            expected="all weights of the model, its head too",
            remedy="export it again from the run's adapter",
        )
    return loaded


def _write(
    model: Any, tokenizer: Any, folder: Path, generation: Mapping[str, Any] | None, weights: dict[str, torch.Tensor]
) -> None:
    from transformers import GenerationConfig

    kept = model.generation_config if getattr(model, "generation_config", None) is not None else None
    if kept is not None:
        model.generation_config = GenerationConfig(**_generation(kept, tokenizer, generation))
    try:
        model.save_pretrained(folder, state_dict=weights)
    finally:
        if kept is not None:
            model.generation_config = kept
    tokenizer.save_pretrained(folder)


def _name_dtype(file: Path, dtype: torch.dtype) -> None:
    settings = json.loads(file.read_text(encoding="utf-8")) | {"dtype": str(dtype).removeprefix("torch.")}
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _generation(kept: Any, tokenizer: Any, asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """Generation settings as transformers writes them: greedy is do_sample false, without a temperature."""
    asked = dict(asked or {})
    settings: dict[str, Any] = {
        "bos_token_id": kept.bos_token_id,
        "eos_token_id": stop_tokens(tokenizer, kept.eos_token_id) or None,
        "pad_token_id": tokenizer.pad_token_id,
        "do_sample": bool(asked.get("temperature", 0.0)),
    }
    if kept.decoder_start_token_id is not None:
        settings["decoder_start_token_id"] = kept.decoder_start_token_id
    if "max_new_tokens" in asked:
        settings["max_new_tokens"] = asked["max_new_tokens"]
    if settings["do_sample"]:
        settings |= {"temperature": asked["temperature"], "top_p": asked.get("top_p", 1.0), "top_k": 0}
    return settings


def _cast(model: Any, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """The weights in `dtype`, but for those that transformers keeps in float32 whatever a model is loaded in.

    Tensors that share memory (tied embeddings) still do, so that they are written once.
    """
    weights: dict[str, torch.Tensor] = model.state_dict()
    if dtype is None:
        return weights
    wanted = dtypes_in(model, dtype)
    done: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}
    for name, value in weights.items():
        if value.is_floating_point():
            weights[name] = done.setdefault((value.data_ptr(), tuple(value.shape)), value.to(wanted.get(name, dtype)))
    return weights
