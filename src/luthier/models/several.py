"""Several LoRA adapters on one base in memory: one answers at a time, or several add up, each with a weight.

    W x + sum over adapters of  weight * s B A x

Each is trained by a phase of its own that starts from the base (`from:` names it), in one recipe or in several; a phase
that starts from another's result stacks on it. Sums are PEFT's `add_weighted_adapter` of the kind that loses nothing
(concatenation), without a new adapter. Source: Hu et al. 2022 (arXiv:2106.09685, section 4.1) on switching tasks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import ModelError, nearest
from .files import ADAPTER, read_json
from .fused import fuse_lora
from .load import Loaded, Task, load_model, resolve
from .quantized import read_bits, rounded
from .source import adapter_base, weight_files
from .weights import check_keys, read_tensors, refuse_infinite
from .wrapped import unwrap

__all__ = ["Adapters", "open_adapters"]

_TASKS: Mapping[str, Task] = {"SEQ_2_SEQ_LM": "seq2seq", "FEATURE_EXTRACTION": "features"}
"""By PEFT's names of tasks; others are a language model's."""
_HEADS = {"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"}


class Adapters:
    """Adapters by name on one base. At first the base answers alone.

    names: in the order they were given. loaded: the base's tokenizer, folder and description.
    """

    def __init__(self, loaded: Loaded, folders: Mapping[str, Path]) -> None:
        self.loaded = loaded
        self.names = tuple(folders)
        self._heads = [name for name, folder in folders.items() if read_json(folder / ADAPTER).get("modules_to_save")]
        # PEFT tells one adapter's weights from another's by whether its name is found in theirs: '0' or 'mlp' is.
        self._inside = {name: f"adapter_{number}" for number, name in enumerate(folders)}
        inside = {self._inside[name]: folder for name, folder in folders.items()}
        self._model: Any = _wrapped(loaded.model, inside).eval()
        self._scales = {(layer, name): scale for layer in self._layers() for name, scale in layer.scaling.items()}
        self.use({})

    def use(self, weights: str | Mapping[str, float]) -> nn.Module:
        """The model with these adapters added up; a name is that one with weight 1, {} is the base.

        It is always the same module: what was in use before is not any more. Errors: ModelError for a name that is not
        there, and for several adapters of which one brought a head of its own.
        """
        chosen = {weights: 1.0} if isinstance(weights, str) else dict(weights)
        for name in chosen:
            if name not in self.names:
                near = nearest(name, self.names)
                raise ModelError(
                    f"no adapter is called '{name}'",
                    expected="one of " + ", ".join(self.names),
                    remedy=f"did you mean '{near}'?" if near else "open it with the others",
                )
        heads = [name for name in chosen if name in self._heads]
        if heads and len(chosen) > 1:
            raise ModelError(
                f"'{heads[0]}' brought a head of its own, and heads do not add up",
                expected="one adapter with a head at a time, or several without",
            )
        used = {self._inside[name]: weight for name, weight in chosen.items()}
        for (layer, name), scale in self._scales.items():
            layer.scaling[name] = scale * used.get(name, 1.0)
        if used:
            self._model.base_model.enable_adapter_layers()
            self._model.base_model.set_adapter(list(used))
            self._model.requires_grad_(False)
        else:
            self._model.base_model.disable_adapter_layers()
        model: nn.Module = self._model
        return model

    def merge(self, weights: str | Mapping[str, float]) -> Loaded:
        """The plain model with these folded in, as `use` has them; the base and its adapters are used up.

        Products and sums are float32 and rounded once for each adapter, to the weights' dtype.
        """
        model = self.use(weights)
        plain = unwrap(model) if weights else self._model.unload()
        if hasattr(plain, "peft_config"):
            del plain.peft_config
        return replace(self.loaded, model=plain.requires_grad_(True))

    def _layers(self) -> list[Any]:
        return [module for module in self._model.modules() if hasattr(module, "lora_A")]


def open_adapters(
    folders: Mapping[str, Path | str],
    base: str | None = None,
    *,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Adapters:
    """The adapters in `folders`, by name, on the base that they name, or on `base`.

    task: the base's head; None: that of a language model, or as the adapters say it of an encoder-decoder or vectors of
    texts. Errors: ModelError where they name different bases, hold them in different bits, are no plain LoRA, do not
    fit, or brought a head of classes that no task names.
    """
    if not folders:
        raise ModelError("no adapter is named", expected="a folder for each name")
    places = {name: Path(folder) for name, folder in folders.items()}
    for folder in places.values():
        _refuse_other_kinds(folder)
    bases = {adapter_base(folder) for folder in places.values()} if base is None else {base}
    bits = {read_bits(folder) for folder in places.values()}
    for what, found in (("models", sorted(bases)), ("numbers of bits", sorted(map(str, bits)))):
        if len(found) > 1:
            raise ModelError(
                f"the adapters belong on bases of different {what}: {', '.join(found)}",
                expected="adapters that were trained over one base",
                remedy="name the base that they share, if it is one model by two names" if what == "models" else None,
            )
    task = task or _task_of(places.values())
    loaded = load_model(bases.pop(), task, labels=labels, dtype=dtype, device=device)
    few = bits.pop()
    if few is not None:
        loaded = replace(loaded, model=rounded(loaded.model, few))
    return Adapters(loaded, places)


def _task_of(folders: Iterable[Path]) -> Task:
    """What the base of these adapters does, as they say it themselves."""
    kinds = {str(read_json(folder / ADAPTER).get("task_type")): folder for folder in folders}
    for kind in kinds.keys() & _HEADS:
        raise ModelError(
            "the adapter brought a head of its own, and no task says which",
            where=str(kinds[kind]),
            expected="open_adapters with a task, such as sequence_classification, and labels; heads do not add up",
            remedy="load the model of its run, where it is folded in",
        )
    return _TASKS.get(min(kinds), "causal_lm")


def _refuse_other_kinds(folder: Path) -> None:
    if not (folder / ADAPTER).is_file():
        resolve(str(folder))  # says what is there
        raise ModelError("the folder holds no adapter", where=str(folder), expected=ADAPTER)
    config = read_json(folder / ADAPTER)
    kind = str(config.get("peft_type"))
    if kind != "LORA" or config.get("use_dora"):
        raise ModelError(
            f"{'DoRA' if kind == 'LORA' else kind} adapters do not add up",
            where=str(folder),
            expected="LoRA adapters, those of pissa and olora among them",
            remedy="load the folder as a model: it is folded into its base",
        )


def _wrapped(model: nn.Module, folders: Mapping[str, Path]) -> nn.Module:
    """The base with all adapters in it. Errors: ModelError for missing or unexpected weights."""
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    adapted: Any = None
    for name, folder in folders.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = False
            if adapted is None:
                adapted = get_peft_model(model, config, adapter_name=name)
            else:
                adapted.add_adapter(name, config)
            (file,) = weight_files(folder, adapter=True)
            given = read_tensors(file)
            refuse_infinite(given.items(), folder)
            options = {"adapter_name": name, "save_embedding_layers": False}
            check_keys(given, get_peft_model_state_dict(adapted, **options), file)
            set_peft_model_state_dict(adapted, given, adapter_name=name)
    return fuse_lora(adapted)
