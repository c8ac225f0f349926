"""Low-rank changes beside frozen linear layers (LoRA), through PEFT and in PEFT's own files.

    W x + s B A x    s = alpha / rank, rank-stabilized: alpha / sqrt(rank)    A [rank, in], B [out, rank], zero at first

Source: Hu et al. 2022 (arXiv:2106.09685, section 4.1); rank-stabilized: Kalajdzievski 2023 (arXiv:2312.03732). The
usual rate, 2e-4, is that of QLoRA (Dettmers et al. 2023, arXiv:2305.14314, table 9). Adapters are float32 over a base
of any dtype; their products are computed in the base's. Errors: ModelError for targets or layers that the model does
not have, a tied output layer, and files that do not fit.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ..core.contracts import Adaptation, ParameterGroup
from ..core.errors import ModelError, Problem, nearest
from ..core.files import write_atomic

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = ["Lora"]

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Lora(Adaptation):
    """Adapters move, and a classification head, which is saved with them; everything else is frozen."""

    example: ClassVar[dict[str, Any]] = {"rank": 8, "targets": ["query", "value"]}
    usual_lr: ClassVar[float] = 2e-4

    rank: int = Field(16, gt=0, description="r; a layer gets rank * (in + out) weights")
    alpha: float | None = Field(
        None, gt=0, description="default: 2 * rank, so the scale is 2; rank-stabilized: 8, the same at rank 16"
    )
    rank_stabilized: bool = Field(False, description="scale alpha / sqrt(rank): large ranks keep learning")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the adapter's input")
    targets: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", min_length=1, description="linear layers by their name or its end; all-linear leaves the head out"
    )
    layers: tuple[int, ...] | None = Field(
        None, min_length=1, description="only in these layers, counted from 0, negative ones from the top"
    )
    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    @property
    def effective_alpha(self) -> float:
        """alpha or its default; rank-stabilized a constant, for there the scale is meant to fall with the rank."""
        if self.alpha is not None:
            return self.alpha
        return 8.0 if self.rank_stabilized else 2.0 * self.rank

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        from ..models.groups import head_scale_problems

        return head_scale_problems(self.head_scale, phase)

    def apply(self, model: nn.Module) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        from ..models.fused import fuse_lora
        from ..models.groups import classification_head

        if hasattr(model, "peft_config"):
            raise ModelError(
                "the model already carries a PEFT adapter",
                remedy="fold the earlier adapter in first: adaptation.merge(model)",
            )
        alpha = self.effective_alpha
        head = _modules_of(model, classification_head(model))
        targets = self._targets(model)
        self._refuse_rank(model, targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=int(alpha) if alpha.is_integer() else alpha,
            lora_dropout=self.dropout,
            use_rslora=self.rank_stabilized,
            target_modules=targets,
            fan_in_fan_out=_transposed(model, targets),
            modules_to_save=head or None,
            bias="none",
            task_type=_task_type(model, head),
        )
        with warnings.catch_warnings():
            # PEFT asks for an attribute that transformers renamed; a user can do nothing about it.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            adapted: nn.Module = get_peft_model(model, config)
        return fuse_lora(adapted)

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return parameter_groups(model, names, head_scale=self.head_scale)

    def save(self, model: nn.Module, folder: Path) -> None:
        """`adapter_model.safetensors` and `adapter_config.json`, as PEFT reads them and with bytes that repeat.

        PEFT's own save writes sets in any order, and a model card with paths of this machine.
        """
        from peft import get_peft_model_state_dict

        from ..models.weights import write_tensors

        state = get_peft_model_state_dict(model, save_embedding_layers=False)
        write_tensors(folder / WEIGHTS, state, {"format": "pt"})
        config = _config(model).to_dict() | {"inference_mode": True}
        if config["modules_to_save"] is not None:
            config["modules_to_save"] = set(config["modules_to_save"])  # PEFT adds names of its own, twice
        plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
        write_atomic(folder / CONFIG, json.dumps(plain, indent=2, sort_keys=True) + "\n")

    def load(self, model: nn.Module, folder: Path) -> None:
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        from ..models.weights import check_keys, read_tensors

        _check_config(folder / CONFIG, _config(model).to_dict())
        state = read_tensors(folder / WEIGHTS)
        # Before PEFT loads: it raises a bare KeyError for a head that is missing.
        check_keys(state, get_peft_model_state_dict(model, save_embedding_layers=False), folder / WEIGHTS)
        result = set_peft_model_state_dict(model, state)
        missing = [key for key in result.missing_keys if "lora_" in key or "modules_to_save" in key]
        if missing or result.unexpected_keys:
            raise ModelError(
                f"PEFT did not place all weights: missing {missing[:5]}, unexpected {result.unexpected_keys[:5]}",
                where=str(folder / WEIGHTS),
                remedy="load it into the model that it was trained on",
            )

    def merge(self, model: nn.Module) -> nn.Module:
        """W + s B A in the place of W, and the trained head in the place of the head; the adapted model is used up.

        The product and the sum are float32 and rounded once, to W's dtype: in float32, log-probabilities then differ by
        about 1e-6 from the adapter's, over bfloat16 weights by about 1e-2, since W itself holds no more than 8 bits.
        """
        plain: nn.Module = model.merge_and_unload()  # type: ignore[operator]
        if hasattr(plain, "peft_config"):
            del plain.peft_config  # PEFT leaves it behind, and everyone would take the model for an adapted one
        return plain

    def _refuse_rank(self, model: nn.Module, targets: list[str]) -> None:
        """A product of rank r holds every change of a matrix whose smaller side is r: more is waste."""
        chosen = [module for name, module in model.named_modules() if any(_ends(name, target) for target in targets)]
        widest = max(min(module.weight.shape) for module in chosen)
        if self.rank > widest:
            raise ModelError(
                f"rank {self.rank} is larger than every matrix that it would change",
                expected=f"at most {widest}, the smaller side of the largest one",
                remedy=f"set rank to {widest} or less, or use the adaptation full",
            )

    def _targets(self, model: Any) -> list[str]:
        """What PEFT is to match: ends of names where those mean the same modules in all layers, else whole names."""
        from ..models.groups import classification_head
        from ..models.linears import is_linear

        head = _modules_of(model, classification_head(model))
        linear = {
            name: module
            for name, module in model.named_modules()
            if is_linear(module) and not any(_ends(name, part) or f".{part}." in f".{name}." for part in head)
        }
        output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        inner = [name for name, module in linear.items() if module is not output]
        chosen = inner if self.targets == "all-linear" else self._named(linear, inner)
        if self.layers is not None:
            chosen = self._in_layers(model, chosen)
        if output is not None and any(linear[name] is output for name in chosen):
            _refuse_tied(model)
        ends = {name.rpartition(".")[2] for name in chosen}
        alike = {name for name, _ in model.named_modules() if any(_ends(name, end) for end in ends)}
        return sorted(ends if alike == set(chosen) else chosen)

    def _named(self, linear: Iterable[str], inner: Iterable[str]) -> list[str]:
        names = list(linear)
        unknown = [target for target in self.targets if not any(_ends(name, target) for name in names)]
        if unknown:
            known = sorted({name.rpartition(".")[2] for name in inner})
            near = nearest(unknown[0], known)
            raise ModelError(
                "no linear layer of the model is called " + ", ".join(f"'{name}'" for name in unknown),
                expected="names among " + ", ".join(known) + ", or longer ends of names",
                remedy=f"did you mean '{near}'?" if near else "targets: all-linear takes all of them",
            )
        return [name for name in names if any(_ends(name, target) for target in self.targets)]

    def _in_layers(self, model: nn.Module, names: list[str]) -> list[str]:
        from ..models.heads import layers

        blocks = [name for name, _ in layers(model)]
        wrong = [number for number in self.layers or () if not -len(blocks) <= number < len(blocks)]
        if wrong:
            raise ModelError(
                f"layers: the model has no layer {wrong[0]}",
                expected=f"numbers from {-len(blocks)} to {len(blocks) - 1}",
            )
        inside = tuple(f"{blocks[number]}." for number in self.layers or ())
        chosen = [name for name in names if name.startswith(inside)]
        if not chosen:
            raise ModelError(f"none of the targets lies in the layers {list(self.layers or ())}")
        return chosen


def _transposed(model: nn.Module, targets: list[str]) -> bool:
    """Whether the targets are GPT-2's Conv1D; PEFT would find out by itself, layer by layer, and warn."""
    from transformers.pytorch_utils import Conv1D

    chosen = [module for name, module in model.named_modules() if any(_ends(name, target) for target in targets)]
    return all(isinstance(module, Conv1D) for module in chosen)


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _config(model: nn.Module) -> Any:
    return model.peft_config["default"]  # type: ignore[index]


def _modules_of(model: nn.Module, parameters: list[str]) -> list[str]:
    """The outermost modules that hold these parameters and no others."""
    wanted = set(parameters)
    found: list[str] = []
    for name, module in model.named_modules():
        inside = {f"{name}.{inner}" for inner, _ in module.named_parameters()}
        if name and inside and inside <= wanted and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


def _refuse_tied(model: nn.Module) -> None:
    inner: Any = model
    output, table = inner.get_output_embeddings(), inner.get_input_embeddings()
    if output.weight is table.weight:
        raise ModelError(
            "the output layer is a target and is tied to the embeddings: merging would change both",
            expected="targets without the output layer",
            remedy="take it out of targets, or use targets: all-linear, which leaves it alone",
        )


def _check_config(path: Path, expected: dict[str, Any]) -> None:
    """The scale is no key of the weights: another alpha would load without a word and be wrong."""
    if not path.is_file():
        raise ModelError(
            "the adapter's configuration is absent", where=str(path), remedy="give the folder that save wrote"
        )
    found = json.loads(path.read_text(encoding="utf-8"))
    names = {"r": "rank", "lora_alpha": "alpha", "use_rslora": "rank_stabilized"}
    problems = [
        Problem(
            f"the adapter was trained with {ours} {found.get(theirs)}, not {expected[theirs]}",
            str(path),
            remedy=f"set {ours}: {found.get(theirs)}",
        )
        for theirs, ours in names.items()
        if found.get(theirs) != expected[theirs]
    ]
    if problems:
        raise ModelError(problems)


def _task_type(model: Any, head: Any) -> str | None:
    """PEFT's name of the task, by which it wraps a model; None, the plain wrapper, for one that fills masks."""
    if not model.can_generate() and model.get_output_embeddings() is not None:
        return None
    return "SEQ_CLS" if head else "CAUSAL_LM"
