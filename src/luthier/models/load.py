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
from typing import Any

import torch
from torch import nn

from ..core.contracts import WRITERS
from ..core.errors import ModelError, first_line, out_of_memory
from .carried import carried_in, left_out, put_on, refuse_other_classes
from .cast import cast
from .configuration import ProblemType, Task, auto_class, configuration, plain_configuration, same_head, supports
from .encoder_decoder import start_token
from .files import CONFIG
from .fold import fold_adapter
from .heads import head_parameters
from .pooling import Pooling, pooling_of
from .source import Resolved, adapter_base, check_source, fetch, refuse_circle, resolve, weight_files
from .tokens import load_tokenizer, spare_tokens, stop_tokens
from .weights import refuse_infinite
from .words import name_classes, word_task

__all__ = [
    "Loaded",
    "ProblemType",
    "Resolved",
    "Task",
    "check_source",
    "examine",
    "load_model",
    "quiet",
    "resolve",
    "tokenizer_of",
]


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode with its tokenizer. fresh: names of parameters that no checkpoint held (a new head).

    description: plain JSON values for the manifest: source, license, revision, sizes, and notes for the reader.
    carried: the name of the adaptation in it that no export can fold into the weights, if any.
    pooling: how its folder asks for vectors of texts to be made; of the task "features" alone.
    """

    model: Any
    tokenizer: Any
    folder: Path
    fresh: frozenset[str]
    description: Mapping[str, Any]
    carried: str | None = None
    pooling: Pooling | None = None


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
    words: bool = False,
) -> Loaded:
    """The model that `source` names, with the head that `task` asks for.

    labels: the classes in order; None keeps those of a model that classifies already. A head whose classes differ from
    `labels` is replaced by a fresh one. dropout: sets every dropout of the model's configuration; None keeps its own.
    A folder with a PEFT adapter gives its base with the adapter folded in (in float32), so that a next phase starts
    from plain weights. Fresh weights depend on `seed` alone; the global random state is left as it was.
    words: the language model itself, with `labels` in its configuration, in place of a head of classes.
    Errors: ModelError with what was found and the remedy.
    """
    found = fetch(resolve(source))
    base, links = _base_and_adapters(found)
    carried = carried_in(_folder(base))
    if carried is not None and labels is not None:
        refuse_other_classes(carried, _folder(base), task, labels)
    if words or (carried is not None and carried.words):
        task = word_task(_folder(base))
    with quiet(), torch.random.fork_rng(devices=[]):
        config = configuration(_folder(base), base.source, task, labels, problem, dropout)
        tokenizer, pad_note = load_tokenizer(_tokenizer_folder(found, base))
        whole = torch.float32 if found.adapter else dtype
        keep_head = same_head(_folder(base), task, labels)
        model, fresh = _from_folder(_folder(base), task, config, whole, seed, keep_head=keep_head)
        refuse_infinite(model.named_parameters(), _folder(base))
        for link in links:
            model, held = fold_adapter(model, link)
            fresh = frozenset(name for name in fresh if name not in held)
        if task == "features":
            fresh = _without_pooler(model, fresh)
        if carried is not None and keep_head:  # another head may have weights of the same names
            fresh -= left_out(_folder(base))
        model = model if whole == dtype else cast(model, dtype)
    _fits(model, tokenizer, source)
    _settle(model, tokenizer, task)
    model = _own_memory(model.to(device)).eval()
    description = _describe(found, model, tokenizer, fresh, pad_note)
    if words:
        name_classes(model, fresh, labels, problem, source)
    if carried is not None:  # after the dtype is set: what it adds has a dtype of its own
        with torch.random.fork_rng(devices=[]):
            model = put_on(carried, model, _folder(base), tokenizer).to(device)
    name = carried.component_name() if carried is not None else None
    pooling = pooling_of(_folder(base)) if task == "features" else None
    return Loaded(model, tokenizer, _folder(base), fresh, description, name, pooling)


def examine(source: str, task: Task) -> None:
    """Looks at what `source` names without its weights, fetching it where it is on the hub.

    Errors: ModelError where the configuration or the tokenizer cannot be used, or not for this task.
    """
    found = fetch(resolve(source))
    base, _ = _base_and_adapters(found)
    with quiet():
        supports(plain_configuration(_folder(base)), task, base.source)
        load_tokenizer(_tokenizer_folder(found, base))


def tokenizer_of(source: str) -> tuple[Any, int | None]:
    """The tokenizer of what `source` names, and how many tokens its model takes (None: it has no last position).

    Errors: ModelError as in `examine`.
    """
    found = fetch(resolve(source))
    base, _ = _base_and_adapters(found)
    with quiet():
        config = plain_configuration(_folder(base)).get_text_config()
        tokenizer, _ = load_tokenizer(_tokenizer_folder(found, base))
    return tokenizer, getattr(config, "max_position_embeddings", None)


def _folder(resolved: Resolved) -> Path:
    assert resolved.folder is not None
    return resolved.folder


def _base_and_adapters(found: Resolved) -> tuple[Resolved, list[Path]]:
    """The whole model at the bottom, and the adapter folders over it, the lowest first."""
    links: list[Path] = []
    while found.adapter:
        folder = _folder(found)
        refuse_circle(folder, links)
        links.append(folder)
        found = fetch(resolve(adapter_base(folder)))
    return found, links[::-1]


def _tokenizer_folder(found: Resolved, base: Resolved) -> Path:
    own = _folder(found)
    return own if (own / "tokenizer.json").is_file() else _folder(base)


def _from_folder(
    folder: Path, task: Task, config: Any, dtype: torch.dtype, seed: int, *, keep_head: bool
) -> tuple[Any, frozenset[str]]:
    """The model with the folder's weights, and the names of what had to be made new."""
    files = weight_files(folder)
    skeleton = _skeleton(auto_class(task), config, folder)
    head = set() if task in WRITERS else _with_other_names(skeleton, head_parameters(skeleton))
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
        if out_of_memory(error):
            raise
        _refuse_shapes(files, skeleton, head)
        raise ModelError(
            f"the weights cannot be loaded: {first_line(error)}",
            where=str(folder),
            expected="safetensors files that match config.json",
            remedy="copy or download the folder again",
        ) from error
    missing = set(info["missing_keys"])
    _accounted(missing - head, set(info["unexpected_keys"]) - _old_head(stored, skeleton, task), folder, task)
    return model, frozenset(missing)


def _without_pooler(model: Any, fresh: frozenset[str]) -> frozenset[str]:
    """Takes BERT's dense layer over the first token away, which no vector here passes through; what else is fresh."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return frozenset(name for name in fresh if not name.startswith("pooler."))


def _with_other_names(model: nn.Module, names: Sequence[str]) -> set[str]:
    """The names and the others that the same parameters have (the bias of BERT's output layer has two)."""
    meant = set(names)
    ids = {id(parameter) for name, parameter in model.named_parameters() if name in meant}
    return {name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) in ids}


def _skeleton(auto: Any, config: Any, folder: Path) -> Any:
    """The model without memory for its weights. Errors: ModelError for values that make no model."""
    try:
        with torch.device("meta"):
            return auto.from_config(config)
    except Exception as error:  # an unknown activation, sizes that do not divide: KeyError, ValueError, RuntimeError
        raise ModelError(
            f"the configuration makes no model: {first_line(error)}",
            where=str(folder / CONFIG),
            expected="values that the installed transformers knows",
            remedy="copy the folder again, upgrade transformers, or choose another model",
        ) from error


def _refuse_shapes(files: Sequence[Path], skeleton: Any, head: set[str]) -> None:
    """Errors: ModelError that lists the stored weights, but those of a head, whose shape is not the model's."""
    from safetensors import SafetensorError, safe_open

    prefix = skeleton.base_model_prefix + "."
    wanted = {name: list(value.shape) for name, value in skeleton.state_dict().items() if name not in head}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                stored = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return
        named = {name: next((n for n in (name, prefix + name) if n in wanted), None) for name in stored}
        other = [(name, wanted[own]) for name, own in named.items() if own is not None and wanted[own] != stored[name]]
        if other:
            first = "; ".join(f"{name} is {stored[name]}, not {shape}" for name, shape in other[:3])
            raise ModelError(
                f"{len(other)} weights have another shape than {CONFIG} says: {first}",
                where=str(file),
                expected=f"the weights and the {CONFIG} of one model",
                remedy="copy or download the folder again",
            )


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
    """Stored weights of a head that is replaced or not asked for: those outside the body, and a pooler."""
    if task in WRITERS:
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
        expected=f"all weights of a {task.replace('_', ' ')} model" + ("" if task in WRITERS else " but its head"),
        remedy="give a checkpoint made for this task, or copy the folder again if files were lost",
    )


def _fits(model: nn.Module, tokenizer: Any, source: str) -> None:
    table = model.get_input_embeddings()  # type: ignore[operator]
    rows, ids = int(table.weight.shape[0]), set(tokenizer.get_vocab().values())
    largest = max(ids - spare_tokens(tokenizer), default=-1)
    if largest >= rows:
        raise ModelError(
            f"the tokenizer has ids up to {largest}, and the embedding has {rows} rows",
            where=source,
            expected="a row for every token",
            remedy="use the tokenizer that belongs to this model, without tokens added later",
        )


def _settle(model: Any, tokenizer: Any, task: Task) -> None:
    """Tells the model where answers end and what pads.

    A language model's own configuration keeps its padding id, since transformers blocks the gradient of that row; a
    classifier's must name it, since transformers finds the last token of a padded row by it.
    """
    if task not in WRITERS:
        model.config.pad_token_id = tokenizer.pad_token_id
        return
    settings = model.generation_config
    settings.eos_token_id = stop_tokens(tokenizer, settings.eos_token_id) or None
    settings.pad_token_id = tokenizer.pad_token_id
    if task == "seq2seq":
        settings.decoder_start_token_id = start_token(model)


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
