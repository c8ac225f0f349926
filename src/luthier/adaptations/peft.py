"""Any adapter of PEFT that changes weights, begins as nothing and learns by gradients alone, under PEFT's own name.

Sources: ia3: Liu et al. 2022 (arXiv:2205.05638); loha: Hyeon-Woo et al. 2022 (arXiv:2108.06098); lokr: Yeh et al. 2024
(arXiv:2309.14859); oft: Qiu et al. 2023 (arXiv:2306.07280); boft: Liu et al. 2024 (arXiv:2311.06243); vera: Kopiczko et
al. 2024 (arXiv:2310.11454); fourierft: Gao et al. 2024 (arXiv:2405.03003); c3a: Chen et al. 2024 (arXiv:2407.19342);
delora: Bini et al. 2025 (arXiv:2503.18225); hira: Huang et al. 2025 (ICLR); shira: Bhardwaj et al. 2024
(arXiv:2406.13175). The usual rate, 1e-3, is one for a first try: the papers' lie far apart, so name your own. Computed
by PEFT, in its own files. Errors: ModelError for targets or layers that the model does not have, for settings or layers
that the method does not take, and for files that do not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from ..core.contracts import Adaptation, ParameterGroup
from ..core.errors import Problem
from ..core.problems import refused

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = ["Peft"]

Method = Literal["ia3", "loha", "lokr", "oft", "boft", "vera", "fourierft", "c3a", "delora", "hira", "shira"]
Setting = bool | int | float | str

NOTHING_AT_FIRST: Mapping[str, Mapping[str, Setting]] = {
    "fourierft": {"init_weights": True},
    "c3a": {"init_weights": True},
}
"""What PEFT must be told so that the adapter changes nothing before the first step; elsewhere it is its default."""

REFUSED: Mapping[str, str] = {
    "lora": "it is an adaptation of its own here: adaptation: lora",
    "adalora": "it gives and takes ranks by gradients between the backward pass and the step, where no adaptation acts",
    "hra": "its reflections undo each other but for rounding, so that the first step would not begin at the base",
    "randlora": "its random matrices are shared by all layers, and its file would hold them once for each",
    "vblora": "it begins in random weights, so that the first step would not begin at the base",
    "unilora": "it begins in random weights, so that the first step would not begin at the base",
    "ln_tuning": "it trains norms and nothing else, which is adaptation: {frozen: {train: ['*norm*']}}",
    "prompt_tuning": "it adds tokens to a sequence and changes no weight: adaptation: prompt",
    "prefix_tuning": "it adds keys and values to attention and changes no weight: adaptation: prefix",
}
"""Methods that are known and cannot be had here under this name, with the reason."""


class Peft(Adaptation):
    """The adapter moves, and a classification head, which is saved with it; everything else is frozen."""

    example: ClassVar[dict[str, Any]] = {"method": "ia3"}
    usual_lr: ClassVar[float] = 1e-3

    method: Method = Field("ia3", description="PEFT's name of the method")
    settings: Mapping[str, Setting] = Field(
        default_factory=dict, description="the method's own parameters by PEFT's names, such as r: 8"
    )
    targets: Literal["all-linear"] | tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="linear layers by their name or its end; default: all-linear, for ia3 keys, values and the last "
        "layer of a feed-forward part",
    )
    layers: tuple[int, ...] | None = Field(
        None, min_length=1, description="only in these layers, counted from 0, negative ones from the top"
    )
    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    @field_validator("method", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        reason = REFUSED.get(str(value).lower())
        if reason is not None:
            raise refused(Problem(f"{value} cannot be had here: {reason}", remedy="choose another method"))
        return value

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        from ..models.groups import head_scale_problems

        return head_scale_problems(self.head_scale, phase)

    def apply(self, model: nn.Module) -> nn.Module:
        from ..models.wrapped import config_of, wrap

        return wrap(
            model,
            config_of(
                model,
                self.method,
                self.targets,
                self.layers,
                given=self.settings,
                fixed=NOTHING_AT_FIRST.get(self.method, {}),
            ),
        )

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return parameter_groups(model, names, head_scale=self.head_scale)

    def save(self, model: nn.Module, folder: Path) -> None:
        """`adapter_model.safetensors` and `adapter_config.json`, as PEFT reads them."""
        from ..models.wrapped import adapter_state, saved_config, write_adapter

        write_adapter(folder, adapter_state(model), saved_config(model))

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.wrapped import adapter_state, own_settings, place, read_adapter, saved_config

        config = saved_config(model)
        names = {name: name for name in ("peft_type", *own_settings(config))}
        place(model, read_adapter(folder, adapter_state(model), config, names), folder)

    def merge(self, model: nn.Module) -> nn.Module:
        """The weights that the adapter makes of the base's, and the trained head; the adapted model is used up."""
        from ..models.wrapped import unwrap

        return unwrap(model)
