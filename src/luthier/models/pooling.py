"""From hidden states of tokens to one vector a text: which pooling a model's folder asks for, and the pooling itself.

A folder of sentence-transformers says it in modules.json and in the configuration of its pooling module; any other
model gets the mean of its tokens, at unit length. Source: Reimers and Gurevych 2019 (arXiv:1908.10084, section 3).
Errors: ModelError for modules that are not known here, since leaving one out would give other vectors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..core.errors import ModelError
from ..core.files import write_atomic
from ..functional.packing import segment_sum, sequence_index
from .files import read_json, read_json_list

__all__ = ["Mode", "Pooling", "pool", "pooling_of", "write_pooling"]

Mode = Literal["mean", "cls", "max", "lasttoken"]
_MODULES, _TRANSFORMER, _PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
_MARKS = "pooling_mode_"
_ENDINGS = {"cls": "_token", "lasttoken": ""}
"""Configurations hold a mark for each mode, such as pooling_mode_mean_tokens or pooling_mode_cls_token."""


@dataclass(frozen=True)
class Pooling:
    """mode: mean or maximum over a text's tokens, its first token or its last; normalize: to unit length.

    max_length: tokens of a text, special ones included, that the model was made for; None: not said.
    lower: the text is put into lower case first.
    """

    mode: Mode = "mean"
    normalize: bool = True
    max_length: int | None = None
    lower: bool = False


def pool(hidden: Tensor, starts: Tensor, pooling: Pooling) -> Tensor:
    """[S, H] float32 for hidden states [T, H] of the packed sequences that `starts` [S+1] bounds."""
    exact = hidden.float()
    lengths = starts.diff()
    if pooling.mode == "cls":
        found = exact.index_select(0, starts[:-1])
    elif pooling.mode == "lasttoken":
        found = exact.index_select(0, starts[1:] - 1)
    elif pooling.mode == "max":
        found = torch.segment_reduce(exact, "max", lengths=lengths.long(), axis=0)
    else:
        found = segment_sum(exact, sequence_index(starts), len(lengths)) / lengths[:, None]
    return torch.nn.functional.normalize(found, dim=-1) if pooling.normalize else found


def pooling_of(folder: Path) -> Pooling:
    """What the folder asks for. Errors: ModelError for what is not known here."""
    if not (folder / _MODULES).is_file():
        return Pooling()
    modules = read_json_list(folder / _MODULES)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise _unknown(folder / _MODULES, f"the modules are {', '.join(kinds) or 'none'}", "Transformer, Pooling")
    _refuse_prompt(folder / _PROMPTS)
    file = folder / _TRANSFORMER
    settings = read_json(file) if file.is_file() else {}
    return Pooling(
        mode=_mode(folder, modules[1]),
        normalize=len(kinds) == 3,
        max_length=settings.get("max_seq_length"),
        lower=bool(settings.get("do_lower_case")),
    )


def write_pooling(folder: Path, pooling: Pooling, width: int) -> None:
    """Writes the files by which sentence-transformers (and `pooling_of`) make the vectors, `width` numbers each."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if pooling.normalize else [])]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds) if number)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    marks = {f"{_MARKS}{mode}{_ENDINGS.get(mode, '_tokens')}": mode == pooling.mode for mode in get_args(Mode)}
    settings = {"max_seq_length": pooling.max_length, "do_lower_case": pooling.lower}
    for name, value in {
        _MODULES: modules,
        f"{paths[1]}/config.json": {"word_embedding_dimension": width, **marks},
        _TRANSFORMER: settings,
        _PROMPTS: {"similarity_fn_name": "cosine"},
    }.items():
        write_atomic(folder / name, json.dumps(value, indent=2) + "\n")


def _mode(folder: Path, module: Mapping[str, Any]) -> Mode:
    path = str(module.get("path", ""))
    file = folder / path / "config.json"
    if Path(path).name != path or not path:
        raise _unknown(folder / _MODULES, f"the pooling lies in '{path}'", "a folder inside the model's")
    settings = read_json(file)
    named = settings.get("pooling_mode")
    if named is None:
        marked = [name for name, value in settings.items() if name.startswith(_MARKS) and value is True]
        named = [name.removeprefix(_MARKS).removesuffix("_tokens").removesuffix("_token") for name in marked]
    modes: Sequence[Any] = [named] if isinstance(named, str) else named
    for mode in get_args(Mode):
        if list(modes) == [mode]:
            known: Mode = mode
            return known
    raise _unknown(file, f"the pooling is {' and '.join(map(str, modes)) or 'not said'}", ", ".join(get_args(Mode)))


def _refuse_prompt(file: Path) -> None:
    """Errors: ModelError where the model wants words of its own before every text."""
    settings = read_json(file) if file.is_file() else {}
    name = settings.get("default_prompt_name")
    if name is not None and (settings.get("prompts") or {}).get(name) != "":
        raise _unknown(file, f"the model wants the prompt '{name}' before every text", "a model without a prompt")


def _unknown(file: Path, found: str, expected: str) -> ModelError:
    return ModelError(
        found,
        where=str(file),
        expected=expected,
        remedy="choose another model for embeddings, such as embedded:minilm",
    )
