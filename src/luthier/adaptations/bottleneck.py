"""Small bottleneck layers inside frozen blocks, after the feed-forward part (Pfeiffer) or attention too (Houlsby).

Sources: Houlsby et al. 2019 (arXiv:1902.00751; their norms, which train there, stay frozen here); Pfeiffer et al. 2021
(AdapterFusion, arXiv:2005.00247, appendix A). The adapters sit on the layer that writes into the residual stream,
before a norm that follows it. The usual rate, 1e-3, lies in the range that Houlsby et al. searched (3e-5 to 3e-3).
Adapters are float32 over a base of any dtype; their products are computed in the base's. Errors: ModelError for a block
without those two layers, for files that do not fit, and always for merge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from pydantic import Field

from ..core.contracts import Adaptation, ParameterGroup
from ..core.errors import ModelError, Problem
from ..core.files import write_atomic

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = ["BottleneckAdapters"]

CONFIG = "bottleneck.json"


class BottleneckAdapters(Adaptation):
    """The bottlenecks move, and a classification head; everything else is frozen."""

    example: ClassVar[dict[str, Any]] = {"placement": "houlsby", "reduction": 8}
    usual_lr: ClassVar[float] = 1e-3

    placement: Literal["pfeiffer", "houlsby"] = Field(
        "pfeiffer", description="pfeiffer: after the feed-forward part; houlsby: after attention as well"
    )
    reduction: int = Field(16, gt=0, description="the bottleneck is the model's width divided by this, at least 1")
    activation: Literal["relu", "gelu", "silu"] = Field("relu", description="between the two layers of a bottleneck")
    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterator[Problem]:
        from ..models.groups import head_scale_problems, unfoldable_problems

        yield from head_scale_problems(self.head_scale, phase)
        yield from unfoldable_problems(recipe, phase, "bottlenecks")

    def apply(self, model: nn.Module) -> nn.Module:
        from ..functional.adapters import Bottleneck, attach_bottleneck
        from ..models.groups import train_only
        from ..models.heads import plain
        from ..models.linears import residual_writers

        if any(isinstance(module, Bottleneck) for module in model.modules()):
            raise ModelError(
                "the model already carries bottlenecks",
                expected="one phase with bottleneck in a recipe",
                remedy="train both phases' data in one phase, or use lora, which can be folded in between",
            )
        width = int(plain(model).config.hidden_size)
        size = max(1, width // self.reduction)
        for _, attention, forward in residual_writers(model):
            for linear in (attention, forward) if self.placement == "houlsby" else (forward,):
                attach_bottleneck(linear, Bottleneck(width, size, self.activation, linear.weight.device))  # type: ignore[arg-type]
        train_only(model, _trained(model))
        return model

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        return parameter_groups(model, _trained(model), head_scale=self.head_scale)

    def save(self, model: nn.Module, folder: Path) -> None:
        """`trained.safetensors`, and `bottleneck.json` with what is needed to apply it again."""
        from ..models.weights import weights_of, write_weights

        write_weights(folder, weights_of(model, _trained(model)), {"adaptation": "bottleneck"})
        text = json.dumps(self._shape(), indent=2, sort_keys=True)
        write_atomic(folder / CONFIG, text + "\n")

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import read_weights, weights_of

        self._check(folder / CONFIG)
        read_weights(folder, weights_of(model, _trained(model)))

    def merge(self, model: nn.Module) -> NoReturn:
        raise ModelError(
            f"bottlenecks cannot be folded into the weights: {self.activation} lies between their two layers",
            expected="an adaptation that is linear in its input, for a merged model or a phase after this one",
            remedy="use lora, or keep the adapter beside its base: apply it to the base, then load its folder",
        )

    def _shape(self) -> dict[str, Any]:
        return {"placement": self.placement, "reduction": self.reduction, "activation": self.activation}

    def _check(self, path: Path) -> None:
        """The activation is no key of the weights: another one would load without a word and be wrong."""
        if not path.is_file():
            raise ModelError(
                "the adapter's configuration is absent", where=str(path), remedy="give the folder that save wrote"
            )
        found = json.loads(path.read_text(encoding="utf-8"))
        problems = [
            Problem(
                f"the adapter was trained with {name} {found.get(name)}, not {value}",
                str(path),
                remedy=f"set {name}: {found.get(name)}",
            )
            for name, value in self._shape().items()
            if found.get(name) != value
        ]
        if problems:
            raise ModelError(problems)


def _trained(model: nn.Module) -> frozenset[str]:
    from ..models.groups import classification_head

    adapters = {name for name, _ in model.named_parameters() if ".bottleneck." in name}
    return frozenset(adapters | set(classification_head(model)))
