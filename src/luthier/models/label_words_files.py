"""Puts classes' words over a language model, and writes and reads what was found for them.

trained.safetensors     the bias of classes, or the vectors of examples
examples.json           the examples' texts and the numbers of their classes, where there are examples
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ModelError, nearest, shortened
from ..core.files import write_atomic
from .label_words import LabelWords, Prompt
from .weights import read_weights, write_weights

__all__ = ["load", "over", "save"]

EXAMPLES = "examples.json"


def over(model: nn.Module, prompt: Prompt) -> LabelWords:
    """The classifier by words over a language model. Errors: ModelError for a model without an output layer over words,
    with such a classifier already, or whose rows have several classes; for words of a class that there is not.
    """
    inner: Any = model
    if isinstance(model, LabelWords) or getattr(inner, "get_output_embeddings", lambda: None)() is None:
        raise ModelError(
            f"{type(model).__name__} has no output layer over words that classes could be asked from",
            expected="a language model, and the objective classify",
            remedy="choose a decoder such as embedded:nano, or a masked language model",
        )
    if inner.config.problem_type != "single_label_classification":
        raise ModelError(
            f"{type(model).__name__} names no class of a text, or several",
            expected="one class a row, and the objective classify",
            remedy="use classic for several classes, which tells each from the rest",
        )
    unknown = [name for name in prompt.texts if name not in inner.config.id2label.values()]
    if unknown:
        near = nearest(unknown[0], inner.config.id2label.values())
        raise ModelError(
            f"texts says something of the class '{shortened(unknown[0])}', which the training rows do not have",
            expected=f"one of the {inner.config.num_labels} classes of the rows",
            remedy=f"did you mean '{shortened(near)}'?" if near else "take it out",
        )
    return LabelWords(inner, prompt)


def save(model: Any, folder: Path, name: str) -> None:
    """Writes `trained.safetensors`, and `examples.json` where there are any."""
    write_weights(folder, _tensors(model), {"adaptation": name})
    bank = model.reader.bank
    if bank is not None:
        rows = [{"text": text, "class": number} for text, number in zip(bank.texts, bank.classes, strict=True)]
        found = {"width": int(bank.vectors.shape[1]), "examples": rows}
        write_atomic(folder / EXAMPLES, json.dumps(found, ensure_ascii=False, indent=1) + "\n")


def load(model: Any, folder: Path) -> None:
    """Reads what `save` wrote. Errors: ModelError for absent files, and for those that do not fit the model."""
    bank = model.reader.bank
    if bank is not None:
        width, texts, classes = _examples(folder / EXAMPLES)
        bank.put(texts, classes, torch.zeros(len(texts), width, device=bank.vectors.device))
    read_weights(folder, _tensors(model))


def _examples(path: Path) -> tuple[int, list[str], list[int]]:
    """The vectors' length, and the texts and classes of the rows."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = found["examples"]
        return int(found["width"]), [str(row["text"]) for row in rows], [int(row["class"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "the examples that come before a text cannot be read",
            where=str(path),
            expected="the file as luthier export wrote it",
            remedy="export the run again",
        ) from error


def _tensors(model: Any) -> dict[str, Tensor]:
    return {"bias": model.bias.data} if model.bias is not None else {"vectors": model.reader.bank.vectors.data}
