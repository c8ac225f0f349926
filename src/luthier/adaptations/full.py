"""Every weight trains, if wanted at a lower rate toward the embeddings.

Layer-wise rates: Howard and Ruder 2018 (arXiv:1801.06146, section 3.2) in the form of BEiT (arXiv:2106.08254). Units:
rates are multiples of the phase's. Errors: ModelError where layer_decay meets a model without a list of blocks, and for
weights that do not fit on loading. The usual rate, 5e-5, is the largest that BERT was tuned with (arXiv:1810.04805,
A.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Adaptation, ParameterGroup
from ..core.errors import Problem

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..core.recipe import Phase, Recipe

__all__ = ["Full"]


class Full(Adaptation):
    """All weights move; norms and biases are not decayed."""

    example: ClassVar[dict[str, Any]] = {"layer_decay": 0.8, "head_scale": 10.0}
    usual_lr: ClassVar[float] = 5e-5

    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each layer's rate is this times that of the layer above it"
    )
    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    @property
    def learns_tokens(self) -> bool:
        return True

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        from ..models.groups import head_scale_problems

        return head_scale_problems(self.head_scale, phase)

    def apply(self, model: nn.Module) -> nn.Module:
        return model.requires_grad_(True)

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        names = [name for name, _ in model.named_parameters()]
        return parameter_groups(model, names, layer_decay=self.layer_decay, head_scale=self.head_scale)

    def save(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import write_weights

        write_weights(folder, _state(model), {"adaptation": "full"})

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import read_weights

        read_weights(folder, _state(model))

    def merge(self, model: nn.Module) -> nn.Module:
        return model


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, each once: a tied weight goes by its first name."""
    kept = model.state_dict()
    buffers = {name: tensor for name, tensor in model.named_buffers() if name in kept}
    return {name: parameter.data for name, parameter in model.named_parameters()} | buffers
