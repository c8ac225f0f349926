"""Only biases train, and the classification head.

Source: Ben Zaken et al. 2022 (BitFit, arXiv:2106.10199); biases of norms count. The usual rate, 1e-3, is the top of the
range that they searched. Errors: ModelError for a model without biases, as most decoders of today.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Adaptation, ParameterGroup
from ..core.errors import Problem

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = ["BitFit"]


class BitFit(Adaptation):
    """Every bias of the model moves, a classification head as a whole."""

    example: ClassVar[dict[str, Any]] = {"head_scale": 2.0}
    usual_lr: ClassVar[float] = 1e-3

    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        from ..models.groups import head_scale_problems

        return head_scale_problems(self.head_scale, phase)

    def apply(self, model: nn.Module) -> nn.Module:
        from ..models.groups import train_only

        train_only(model, _trained(model))
        return model

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        return parameter_groups(model, _trained(model), head_scale=self.head_scale)

    def save(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import weights_of, write_weights

        write_weights(folder, weights_of(model, _trained(model)), {"adaptation": "bitfit"})

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import read_weights, weights_of

        read_weights(folder, weights_of(model, _trained(model)))

    def merge(self, model: nn.Module) -> nn.Module:
        return model


def _trained(model: nn.Module) -> frozenset[str]:
    from ..core.errors import ModelError
    from ..models.groups import classification_head
    from ..models.heads import plain

    head = frozenset(classification_head(model))
    biases = {name for name, _ in model.named_parameters() if name.rpartition(".")[2] == "bias"} - head
    if not biases:
        raise ModelError(
            f"{type(plain(model)).__name__} has no biases, so bitfit has nothing to train",
            expected="a model with biases, such as BERT or GPT-2",
            remedy="use lora, which trains few weights in any model",
        )
    return head | biases
