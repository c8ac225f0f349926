"""A language model that is loaded for its own words, which then name classes, in place of a head of classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from .configuration import ProblemType, Task, plain_configuration

__all__ = ["name_classes", "word_task"]


def word_task(folder: Path) -> Task:
    """What the model in the folder does with words: fills masks where it is an encoder, else goes on."""
    from transformers import AutoModelForMaskedLM

    config = plain_configuration(folder)
    masks = type(config) in AutoModelForMaskedLM._model_mapping and not getattr(config, "is_decoder", False)
    return "masked_lm" if masks else "causal_lm"


def name_classes(
    model: Any, fresh: Collection[str], labels: Sequence[str] | None, problem: ProblemType | None, source: str
) -> None:
    """Writes the classes into a language model's configuration. Errors: ModelError where its output is untrained."""
    if fresh:
        raise ModelError(
            "the model has no trained output layer over words",
            where=source,
            expected="a language model: a decoder, or an encoder trained to fill masks",
            remedy="take embedded:nano or another language model; of an encoder of texts the nearest class text is "
            "found by the step class_texts with the adaptation classic: {kind: centroid}",
        )
    names = list(labels or ())
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    model.config.problem_type = problem
