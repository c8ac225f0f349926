"""Low-rank changes beside frozen linear layers (LoRA) and its kin, through PEFT and in PEFT's own files.

    W x + s B A x    s = alpha / rank, rank-stabilized: alpha / sqrt(rank)    A [rank, in], B [out, rank], zero at first

Source: Hu et al. 2022 (arXiv:2106.09685, section 4.1); rank-stabilized: Kalajdzievski 2023 (arXiv:2312.03732);
b_scale: Hayou et al. 2024 (LoRA+, arXiv:2402.12354); init: Meng et al. 2024 (PiSSA, arXiv:2404.02948), Buyukakyuz 2024
(OLoRA, arXiv:2406.01775); dora: Liu et al. 2024 (arXiv:2402.09353); base: Dettmers et al. 2023 (QLoRA,
arXiv:2305.14314), whose rate for AdamW, 2e-4 (table 9), is the usual one here. Adapters are float32 over a base of any
dtype; their products are computed in the base's. Errors: ModelError for targets or layers that the model does not have,
a tied output layer, a rank that no matrix has, and files that do not fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.contracts import Adaptation, ParameterGroup
from ..core.errors import ModelError, Problem
from ..core.problems import refused

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..core.recipe import Phase, Recipe

__all__ = ["Lora"]

_ALIKE = {"r": "rank", "lora_alpha": "alpha", "use_rslora": "rank_stabilized", "use_dora": "dora"}


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
    init: Literal["zero", "pissa", "olora"] = Field(
        "zero",
        description="what the adapter is at first: zero; pissa: the principal part of its matrix; olora: an "
        "orthonormal part. It is taken off again, so that nothing changes before the first step",
    )
    dora: bool = Field(False, description="the size of each output's weights trains apart from their direction")
    b_scale: float = Field(
        1.0, gt=0, description="B's rate as a multiple of the phase's (LoRA+, whose authors took 16)"
    )
    base: Literal["int8", "int4"] | None = Field(
        None,
        description="in what the frozen linear layers are held: a quarter or a seventh of float32's memory",
    )
    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    @model_validator(mode="after")
    def _composes(self) -> Lora:
        if self.dora and (self.init != "zero" or self.base is not None):
            other = f"init: {self.init}" if self.init != "zero" else f"base: {self.base}"
            raise refused(
                Problem(
                    f"dora measures the weights that its adapter changes, which goes with no {other}",
                    expected="dora with init: zero over a base as it is",
                    remedy=f"remove dora or {other}",
                )
            )
        return self

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
        from ..models.begun import begin
        from ..models.dora import begin_at_the_base
        from ..models.fused import fuse_lora
        from ..models.quantized import inner_linears, quantize_layers
        from ..models.wrapped import wrap

        config = self._config(model)
        inner = [] if self.base is None else inner_linears(model)
        adapted = wrap(model, config)
        if self.init != "zero":
            begin(adapted, self.init)
        if self.dora:
            begin_at_the_base(adapted)
        if self.base is not None:
            quantize_layers(adapted, inner, self.base)
        return fuse_lora(adapted)

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups, part_group

        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        groups = parameter_groups(model, names, head_scale=self.head_scale)
        if self.b_scale == 1.0:
            return groups
        return [part for group in groups for part in part_group(group, ".lora_B.", "B", self.b_scale)]

    def save(self, model: nn.Module, folder: Path) -> None:
        """`adapter_model.safetensors` and `adapter_config.json`, as PEFT reads them, and `base.json` where the base is
        in few bits.
        """
        from ..models.quantized import write_bits
        from ..models.wrapped import write_adapter

        write_adapter(folder, *self._filed(model))
        write_bits(folder, self.base)

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.begun import file_units, halved
        from ..models.quantized import refuse_other_bits
        from ..models.wrapped import place, read_adapter

        refuse_other_bits(folder, self.base)
        units = None if self.init == "zero" else file_units(stabilized=self.rank_stabilized)
        state = read_adapter(folder, *self._filed(model), _ALIKE, units)
        place(model, state if self.init == "zero" else halved(model, state), folder)

    def merge(self, model: nn.Module) -> nn.Module:
        """W + s B A in the place of W, and the trained head in the place of the head; the adapted model is used up.

        The product and the sum are float32 and rounded once, to W's dtype: in float32, log-probabilities then differ by
        about 1e-6 from the adapter's, over bfloat16 weights by about 1e-2, since W itself holds no more than 8 bits.
        Over a base in few bits W is what these stand for, and the merged model is a plain one of the base's dtype.
        """
        from ..models.quantized import restore_layers
        from ..models.wrapped import unwrap

        return unwrap(restore_layers(model))

    def _config(self, model: nn.Module) -> Any:
        from peft import LoraConfig

        from ..models.targets import head_modules, is_transposed, linear_targets
        from ..models.wrapped import task_type

        alpha = self.effective_alpha
        head = head_modules(model)
        targets = linear_targets(model, self.targets, self.layers)
        self._refuse_rank(model, targets)
        return LoraConfig(
            r=self.rank,
            lora_alpha=int(alpha) if alpha.is_integer() else alpha,
            lora_dropout=self.dropout,
            use_rslora=self.rank_stabilized,
            use_dora=self.dora,
            target_modules=targets,
            fan_in_fan_out=is_transposed(model, targets),
            modules_to_save=head or None,
            bias="none",
            task_type=task_type(model, head),
        )

    def _filed(self, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The adapter's tensors and configuration as files have them."""
        from ..models.begun import doubled, of_twice_the_rank
        from ..models.wrapped import adapter_state, saved_config

        state, config = adapter_state(model), saved_config(model)
        if self.init == "zero":
            return state, config
        return doubled(model, state), of_twice_the_rank(config)

    def _refuse_rank(self, model: nn.Module, targets: list[str]) -> None:
        """A product of rank r holds every change of a matrix whose smaller side is r: more is waste."""
        from ..models.targets import targeted

        sides: list[int] = [min(module.weight.shape) for module in targeted(model, targets)]  # type: ignore[arg-type]
        if self.rank > max(sides):
            raise ModelError(
                f"rank {self.rank} is larger than every matrix that it would change",
                expected=f"at most {max(sides)}, the smaller side of the largest one",
                remedy=f"set rank to {max(sides)} or less, or use the adaptation full",
            )
        if self.init != "zero" and self.rank > min(sides):
            raise ModelError(
                f"rank {self.rank} is larger than a matrix of which init: {self.init} takes as many parts",
                expected=f"at most {min(sides)}, the smaller side of the smallest one",
                remedy=f"set rank to {min(sides)} or less, choose other targets, or use init: zero",
            )
