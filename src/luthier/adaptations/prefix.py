"""Trained keys and values that every token attends to, in each attention layer, behind gates that are closed at first.

Sources: Li and Liang 2021 (prefix-tuning, arXiv:2101.00190), gates and a softmax of their own: Zhang et al. 2023
(LLaMA-Adapter, arXiv:2303.16199, section 3.2). The usual rate, 5e-3, is that of the former's authors' code for GPT-2,
a hundredfold of full fine-tuning's. Errors: ModelError for a model that must be padded, for files that do not fit, and
always for merge.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pydantic import Field

from ..core.contracts import Adaptation, ParameterGroup
from ..core.errors import ModelError, Problem

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = ["PrefixTuning"]


class PrefixTuning(Adaptation):
    """The prefixes and their gates move, and a classification head; everything else is frozen."""

    example: ClassVar[dict[str, Any]] = {"length": 10}
    usual_lr: ClassVar[float] = 5e-3

    length: int = Field(10, gt=0, description="keys and values that are added to each attention layer")
    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterator[Problem]:
        from ..models.groups import head_scale_problems, unfoldable_problems

        yield from head_scale_problems(self.head_scale, phase)
        yield from unfoldable_problems(recipe, phase, "prefixes")

    def apply(self, model: nn.Module) -> nn.Module:
        from ..functional.prefix import Prefix
        from ..models.attention import attention_layers
        from ..models.groups import train_only

        if any(isinstance(module, Prefix) for module in model.modules()):
            raise ModelError(
                "the model already carries prefixes",
                expected="one phase with prefix in a recipe",
                remedy="train both phases' data in one phase, or use lora, which can be folded in between",
            )
        device = next(model.parameters()).device
        for layer, heads in attention_layers(model).items():
            layer.prefix = Prefix(self.length, heads.queries, heads.keys, heads.key_width, heads.value_width, device)
        train_only(model, _trained(model))
        return model

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        return parameter_groups(model, _trained(model), head_scale=self.head_scale)

    def save(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import weights_of, write_weights

        write_weights(folder, weights_of(model, _trained(model)), {"adaptation": "prefix"})

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import read_weights, weights_of

        read_weights(folder, weights_of(model, _trained(model)))

    def merge(self, model: nn.Module) -> NoReturn:
        raise ModelError(
            "prefixes cannot be folded into the weights: what they add depends on each query",
            expected="an adaptation that is linear in its input, for a merged model or a phase after this one",
            remedy="use lora, or keep the prefixes beside their base: apply them to the base, then load their folder",
        )


def _trained(model: nn.Module) -> frozenset[str]:
    from ..models.groups import classification_head

    own = {name for name, _ in model.named_parameters() if ".prefix." in name}
    return frozenset(own | set(classification_head(model)))
