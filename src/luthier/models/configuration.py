"""A model's configuration, with the head's classes and the dropout that a phase asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ..core import contracts
from ..core.errors import ModelError, first_line
from .files import CONFIG, read_json
from .whole import refuse_code

__all__ = [
    "CLASSIFIERS",
    "MANY_LANGUAGES",
    "ProblemType",
    "Task",
    "auto_class",
    "configuration",
    "plain_configuration",
    "same_head",
    "supports",
]

Task = contracts.Task
"""What is asked of a model: the head that an objective needs."""
CLASSIFIERS = {
    "sequence_classification": "ForSequenceClassification",
    "sequence_score": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
}
"""Tasks whose head has classes of the data, and how transformers names such models."""
ProblemType = Literal["single_label_classification", "multi_label_classification"]
_ENDS = ("start", "end")
"""What the two outputs of a question-answering head tell of."""

MANY_LANGUAGES = ("m2m_100", "mbart", "nllb_moe", "seamless_m4t", "seamless_m4t_v2")
"""Encoder-decoders that must be told a language by a token of their own; nothing here does."""

_WANTED = {
    "causal_lm": "a decoder, such as embedded:nano",
    "masked_lm": "an encoder, such as embedded:minilm",
    "question_answering": "an encoder, such as embedded:minilm",
    "seq2seq": "an encoder-decoder that reads and writes text, such as T5",
}


def configuration(
    folder: Path,
    source: str,
    task: Task,
    labels: Sequence[str] | None,
    problem: ProblemType | None,
    dropout: float | None,
) -> Any:
    """The configuration in `folder` with the head's classes and the dropout set.

    Errors: ModelError where it cannot be used, or not for this task; source: how the recipe names the model.
    """
    config = plain_configuration(folder)
    supports(config, task, source)
    if task in CLASSIFIERS:
        names = list(labels) if labels is not None else _own_labels(config, task, folder)
        if names is None:
            raise ModelError(
                "the model has no classes of its own yet",
                where=source,
                expected="labels for its new head, or a model saved after classification training",
                remedy="give labels, which a recipe takes from its training data",
            )
        if len(set(names)) != len(names):
            raise ValueError("labels must differ from each other")
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
    if task == "sequence_classification":
        config.problem_type = problem or config.problem_type or "single_label_classification"
    if task == "sequence_score":
        config.problem_type = "regression"
    if task == "question_answering":
        config.id2label, config.label2id = dict(enumerate(_ENDS)), {name: at for at, name in enumerate(_ENDS)}
    if dropout is not None:
        for name in _dropouts(config):
            setattr(config, name, dropout)
    return config


def plain_configuration(folder: Path) -> Any:
    """The configuration as it lies in the folder; code that it names is never run. Errors: ModelError."""
    from transformers import AutoConfig

    file = folder / CONFIG
    refuse_code(read_json(file), file)
    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # KeyError, ValueError, OSError or a validation error of the hub's
        raise ModelError(
            f"the configuration cannot be used: {first_line(error)}",
            where=str(file),
            expected="a model type and sizes that the installed transformers knows",
            remedy="copy the folder again, upgrade transformers, or choose another model",
        ) from error


def auto_class(task: Task) -> Any:
    """The class of transformers that makes a model for the task."""
    import transformers

    names: dict[Task, str] = {
        "features": "AutoModel",
        "causal_lm": "AutoModelForCausalLM",
        "masked_lm": "AutoModelForMaskedLM",
        "question_answering": "AutoModelForQuestionAnswering",
        "seq2seq": "AutoModelForSeq2SeqLM",
        "sequence_classification": "AutoModelForSequenceClassification",
        "sequence_score": "AutoModelForSequenceClassification",
        "token_classification": "AutoModelForTokenClassification",
    }
    return getattr(transformers, names[task])


def supports(config: Any, task: Task, source: str) -> None:
    """Refuses what would load and be wrong: encoder-decoders, encoders asked to continue a text, and decoders asked
    where an answer lies.
    """
    reason, two_sides = None, getattr(config, "is_encoder_decoder", False)
    if task == "seq2seq" and not two_sides:
        reason = f"'{config.model_type}' is no encoder-decoder: it does not read one text and write another"
    elif task == "seq2seq" and config.model_type in MANY_LANGUAGES:
        reason = f"'{config.model_type}' translates between many languages and has to be told which"
    elif two_sides and task != "seq2seq":
        reason = f"'{config.model_type}' is an encoder-decoder, which is trained by the objective seq2seq alone"
    elif type(config) not in auto_class(task)._model_mapping:
        reason = f"transformers has no {task.replace('_', ' ')} model of type '{config.model_type}'"
    elif task == "causal_lm" and _is_encoder(config):
        reason = f"'{config.model_type}' is an encoder: it sees the text in both directions and cannot continue one"
    elif task == "question_answering" and not _is_encoder(config):
        reason = f"'{config.model_type}' is a decoder: what it says of a passage's first words cannot know the rest"
    elif task == "causal_lm" and any(_classifies(config, other) for other in CLASSIFIERS):
        reason = "the model is a classifier: it names classes, and has no output layer for words"
    if reason:
        raise ModelError(
            reason,
            where=source,
            expected=_WANTED.get(task, "an encoder or a decoder"),
            remedy="choose another model" + _or_another_objective(task, two_sides),
        )


def _or_another_objective(task: Task, two_sides: bool) -> str:
    if two_sides:
        return "" if task == "seq2seq" else ", or the objective seq2seq"
    if task == "seq2seq":
        return ", or the objective causal_lm for a decoder"
    return ", or the objective classify for an encoder or a classifier" if task == "causal_lm" else ""


def same_head(folder: Path, task: Task, labels: Sequence[str] | None) -> bool:
    """Whether the checkpoint's head is the one asked for: the same classes in the same order."""
    config = read_json(folder / CONFIG)
    if task == "question_answering":  # a classifier's head may have two outputs, too, by the same name
        return any(str(name).endswith("ForQuestionAnswering") for name in config.get("architectures") or ())
    if task not in CLASSIFIERS or labels is None:
        return True
    named = config.get("id2label") or {}
    kinds = [str(name) for name in config.get("architectures") or ()]
    if kinds and not any(name.endswith(CLASSIFIERS[task]) for name in kinds):
        return False
    return [named[key] for key in sorted(named, key=int)] == list(labels)


def _is_encoder(config: Any) -> bool:
    from transformers import AutoModelForMaskedLM

    return type(config) in AutoModelForMaskedLM._model_mapping and not getattr(config, "is_decoder", False)


def _classifies(config: Any, task: str) -> bool:
    return any(str(name).endswith(CLASSIFIERS[task]) for name in config.architectures or ())


def _own_labels(config: Any, task: Task, folder: Path) -> list[str] | None:
    if not _classifies(config, task):
        return None
    if sorted(config.id2label) != list(range(len(config.id2label))):
        raise ModelError(
            f"id2label names the classes {sorted(config.id2label)}",
            where=str(folder / CONFIG),
            expected=f"numbers from 0 to {len(config.id2label) - 1}",
            remedy="correct id2label, or copy the folder again",
        )
    return [config.id2label[index] for index in range(len(config.id2label))]


def _dropouts(config: Any) -> list[str]:
    values = config.to_dict()
    return [
        name
        for name, value in values.items()
        if ("dropout" in name or name.endswith("pdrop"))
        and (value is None or isinstance(value, (int, float)))
        and not isinstance(value, bool)
    ]
