"""Loads a model and its tokenizer, strictly: every weight accounted for, or an error that lists what is not.

    source --resolve--> folder --from_pretrained--> model     (--fold_adapter--> where the folder holds an adapter)
                                                              (--put_on--> where it carries what cannot be folded in)

Weights come from safetensors only and code from transformers only. Nothing is ever shrunk or silently made up: only a
new classification head is, from a seed that is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..core.errors import ModelError, first_line
from .carried import carried_in, put_on
from .fold import fold_adapter
from .heads import head_parameters
from .source import CONFIG, Resolved, adapter_base, check_source, fetch, read_json, resolve, weight_files
from .tokens import load_tokenizer, stop_tokens, vocabulary_size

__all__ = [
    "Loaded",
    "ProblemType",
    "Resolved",
    "Task",
    "check_source",
    "load_model",
    "quiet",
    "resolve",
]

Task = Literal["causal_lm", "sequence_classification"]
ProblemType = Literal["single_label_classification", "multi_label_classification"]


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode with its tokenizer. fresh: names of parameters that no checkpoint held (a new head).

    description: plain JSON values for the manifest: source, license, revision, sizes, and notes for the reader.
    carried: the name of the adaptation in it that no export can fold into the weights, if any.
    """

    model: Any
    tokenizer: Any
    folder: Path
    fresh: frozenset[str]
    description: Mapping[str, Any]
    carried: str | None = None


def load_model(
    source: str,
    task: Task,
    *,
    labels: Sequence[str] | None = None,
    problem: ProblemType | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    dropout: float | None = None,
    seed: int = 0,
) -> Loaded:
    """The model that `source` names, with the head that `task` asks for.

    labels: the classes in order; None keeps those of a model that classifies already. A head whose classes differ from
    `labels` is replaced by a fresh one. dropout: sets every dropout of the model's configuration; None keeps its own.
    A folder with a PEFT adapter gives its base with the adapter folded in (in float32), so that a next phase starts
    from plain weights. Fresh weights depend on `seed` alone; the global random state is left as it was.
    Errors: ModelError with what was found and the remedy.
    """
    found = fetch(resolve(source))
    base, links = _base_and_adapters(found)
    with quiet():
        tokenizer, pad_note = load_tokenizer(_tokenizer_folder(found, base))
        config = _configuration(base, task, labels, problem, dropout)
        whole = torch.float32 if found.adapter else dtype
        model, fresh = _from_folder(_folder(base), task, config, whole, seed, keep_head=_same_head(base, task, labels))
        for link in links:
            model, held = fold_adapter(model, link)
            fresh = frozenset(name for name in fresh if name not in held)
    _fits(model, tokenizer, source)
    _settle(model, tokenizer, task)
    model = _own_memory(model.to(device=device, dtype=dtype)).eval()
    description = _describe(found, model, tokenizer, fresh, pad_note)
    carried = carried_in(_folder(base))
    if carried is not None:  # after the dtype is set: what it adds has a dtype of its own
        model = put_on(carried, model, _folder(base)).to(device)
    name = carried.component_name() if carried is not None else None
    return Loaded(model, tokenizer, _folder(base), fresh, description, name)


def _folder(resolved: Resolved) -> Path:
    assert resolved.folder is not None
    return resolved.folder


def _base_and_adapters(found: Resolved) -> tuple[Resolved, list[Path]]:
    """The whole model at the bottom, and the adapter folders over it, the lowest first."""
    links: list[Path] = []
    while found.adapter:
        folder = _folder(found)
        if folder in links:
            raise ModelError(
                "the adapter names itself as its base", where=str(folder), remedy="name the real base there"
            )
        links.append(folder)
        found = fetch(resolve(adapter_base(folder)))
    return found, links[::-1]


def _tokenizer_folder(found: Resolved, base: Resolved) -> Path:
    own = _folder(found)
    return own if (own / "tokenizer.json").is_file() else _folder(base)


def _configuration(
    base: Resolved, task: Task, labels: Sequence[str] | None, problem: ProblemType | None, dropout: float | None
) -> Any:
    """The model's configuration with the head's classes and the dropout set."""
    from transformers import AutoConfig

    folder = _folder(base)
    if "auto_map" in read_json(folder / CONFIG):
        raise ModelError(
            "the model brings code of its own, and that is never run",
            where=str(folder / CONFIG),
            expected="a model that transformers knows, without auto_map",
            remedy="use a version of the model in transformers' own format",
        )
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # KeyError, ValueError, OSError or a validation error of the hub's
        raise ModelError(
            f"the configuration cannot be used: {first_line(error)}",
            where=str(folder / CONFIG),
            expected="a model type that the installed transformers knows",
            remedy="upgrade transformers, or choose another model",
        ) from error
    _supports(config, task, base.source)
    if task == "sequence_classification":
        names = list(labels) if labels is not None else _own_labels(config)
        if names is None:
            raise ModelError(
                "the model has no classes of its own yet",
                where=base.source,
                expected="labels for its new head, or a model saved after classification training",
                remedy="give labels, which a recipe takes from its training data",
            )
        if len(set(names)) != len(names):
            raise ValueError("labels must differ from each other")
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
        config.problem_type = problem or config.problem_type or "single_label_classification"
    if dropout is not None:
        for name in _dropouts(config):
            setattr(config, name, dropout)
    return config


def _supports(config: Any, task: Task, source: str) -> None:
    """Refuses what would load and be wrong: encoder-decoders, and encoders asked to continue a text."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

    auto = AutoModelForCausalLM if task == "causal_lm" else AutoModelForSequenceClassification
    reason = None
    if type(config) not in auto._model_mapping:
        reason = f"transformers has no {task.replace('_', ' ')} model of type '{config.model_type}'"
    elif getattr(config, "is_encoder_decoder", False):
        reason = f"'{config.model_type}' is an encoder-decoder, which luthier does not train yet"
    elif (
        task == "causal_lm"
        and type(config) in AutoModelForMaskedLM._model_mapping
        and not getattr(config, "is_decoder", False)
    ):
        reason = f"'{config.model_type}' is an encoder: it sees the text in both directions and cannot continue one"
    elif task == "causal_lm" and _own_labels(config) is not None:
        reason = "the model is a classifier: it names classes, and has no output layer for words"
    if reason:
        raise ModelError(
            reason,
            where=source,
            expected="a decoder, such as embedded:nano" if task == "causal_lm" else "an encoder or a decoder",
            remedy="choose another model, or the objective classify for an encoder or a classifier",
        )


def _own_labels(config: Any) -> list[str] | None:
    if not any(str(name).endswith("ForSequenceClassification") for name in config.architectures or ()):
        return None
    return [config.id2label[index] for index in range(len(config.id2label))]


def _same_head(base: Resolved, task: Task, labels: Sequence[str] | None) -> bool:
    """Whether the checkpoint's head is the one asked for: the same classes in the same order."""
    if task == "causal_lm" or labels is None:
        return True
    stored = read_json(_folder(base) / CONFIG)
    named = stored.get("id2label") or {}
    return [named[key] for key in sorted(named, key=int)] == list(labels)


def _dropouts(config: Any) -> list[str]:
    values = config.to_dict()
    return [
        name
        for name, value in values.items()
        if ("dropout" in name or name.endswith("pdrop"))
        and (value is None or isinstance(value, (int, float)))
        and not isinstance(value, bool)
    ]


def _from_folder(
    folder: Path, task: Task, config: Any, dtype: torch.dtype, seed: int, *, keep_head: bool
) -> tuple[Any, frozenset[str]]:
    """The model with the folder's weights, and the names of what had to be made new."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    files = weight_files(folder)
    auto = AutoModelForCausalLM if task == "causal_lm" else AutoModelForSequenceClassification
    with torch.device("meta"):
        skeleton = auto.from_config(config)
    head = set(head_parameters(skeleton)) if task == "sequence_classification" else set()
    try:
        stored = _stored_names(files)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if keep_head:
                model, info = type(skeleton).from_pretrained(
                    str(folder),
                    config=config,
                    dtype=dtype,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                )
            else:
                model, info = type(skeleton).from_pretrained(
                    None, config=config, dtype=dtype, state_dict=_without(files, head), output_loading_info=True
                )
    except ModelError:
        raise
    except Exception as error:  # a torn file, a wrong shape, a missing package: each library raises its own
        raise ModelError(
            f"the weights cannot be loaded: {first_line(error)}",
            where=str(folder),
            expected="safetensors files that match config.json",
            remedy="copy or download the folder again",
        ) from error
    missing = set(info["missing_keys"])
    _accounted(missing - head, set(info["unexpected_keys"]) - _old_head(stored, skeleton, task), folder, task)
    return model, frozenset(missing)


def _stored_names(files: Sequence[Path]) -> list[str]:
    from safetensors import safe_open

    names: list[str] = []
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names.extend(opened.keys())
    return names


def _without(files: Sequence[Path], head: set[str]) -> dict[str, torch.Tensor]:
    """All weights of the files but the head's output; a pooler, which no class depends on, stays."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for file in files:
        weights.update(load_file(file))
    return {name: value for name, value in weights.items() if name not in head or "pooler" in name.split(".")}


def _old_head(stored: Sequence[str], skeleton: Any, task: Task) -> set[str]:
    """Stored weights that belong to a head which the new one replaces: those outside the body, and a pooler."""
    if task == "causal_lm":
        return set()
    prefix = skeleton.base_model_prefix + "."
    prefixed = any(name.startswith(prefix) for name in stored)
    return {name for name in stored if "pooler" in name.split(".") or (prefixed and not name.startswith(prefix))}


def _accounted(missing: set[str], unexpected: set[str], folder: Path, task: Task) -> None:
    if not missing and not unexpected:
        return
    parts = []
    for what, names in (("missing", sorted(missing)), ("not used by the model", sorted(unexpected))):
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            parts.append(f"{len(names)} {what}: {', '.join(names[:8])}{more}")
    raise ModelError(
        "weights do not match the model; " + "; ".join(parts),
        where=str(folder),
        expected=f"all weights of a {task.replace('_', ' ')} model" + ("" if task == "causal_lm" else " but its head"),
        remedy="give a checkpoint made for this task, or copy the folder again if files were lost",
    )


def _fits(model: nn.Module, tokenizer: Any, source: str) -> None:
    table = model.get_input_embeddings()  # type: ignore[operator]
    rows, needed = int(table.weight.shape[0]), vocabulary_size(tokenizer)
    if needed > rows:
        raise ModelError(
            f"the tokenizer has ids up to {needed - 1}, and the embedding has {rows} rows",
            where=source,
            expected="a row for every token",
            remedy="use the tokenizer that belongs to this model, without tokens added later",
        )


def _settle(model: Any, tokenizer: Any, task: Task) -> None:
    """Tells the model where answers end and what pads.

    A language model's own configuration keeps its padding id, since transformers blocks the gradient of that row; a
    classifier's must name it, since transformers finds the last token of a padded row by it.
    """
    if task == "sequence_classification":
        model.config.pad_token_id = tokenizer.pad_token_id
        return
    settings = model.generation_config
    settings.eos_token_id = stop_tokens(tokenizer, settings.eos_token_id) or None
    settings.pad_token_id = tokenizer.pad_token_id


def _own_memory(model: nn.Module) -> nn.Module:
    """Moves weights out of the mapped file into memory of their own.

    A mapped file lends its tensors at 8 bytes from an aligned address, where the CPU's products round differently than
    on the same weights elsewhere (4e-9 was measured), and it must not be replaced while it is mapped.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
    return model


def _describe(
    found: Resolved, model: Any, tokenizer: Any, fresh: frozenset[str], pad_note: str | None
) -> dict[str, Any]:
    return {
        "source": found.source,
        "kind": found.kind,
        "revision": found.revision,
        "license": found.license,
        "adapter": found.adapter,
        "architecture": type(model).__name__,
        "model_type": model.config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "vocabulary": len(tokenizer),
        "positions": getattr(model.config, "max_position_embeddings", None),
        "fresh": sorted(fresh),
        "notes": [pad_note] if pad_note else [],
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from printing: what matters of its reports is raised or returned here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
