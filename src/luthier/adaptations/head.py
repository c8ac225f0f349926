"""Only the head trains; the body stays as it is.

Linear probing where the head is one linear layer (Alain and Bengio 2016, arXiv:1610.01644). Errors: ModelError where
the model has no head of its own, as a language model whose output layer is tied to its embeddings. The usual rate is
1e-3: nothing pretrained moves, so nothing can be forgotten.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..core.contracts import Adaptation, ParameterGroup

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Head"]


class Head(Adaptation):
    """The classification head moves (BERT's pooler is part of it), or the output layer of an untied language model."""

    example: ClassVar[dict[str, Any]] = {}
    usual_lr: ClassVar[float] = 1e-3

    def apply(self, model: nn.Module) -> nn.Module:
        from ..models.groups import train_only

        train_only(model, _head(model))
        return model

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        return parameter_groups(model, _head(model))

    def save(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import weights_of, write_weights

        write_weights(folder, weights_of(model, _head(model)), {"adaptation": "head"})

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import read_weights, weights_of

        read_weights(folder, weights_of(model, _head(model)))

    def merge(self, model: nn.Module) -> nn.Module:
        return model


def _head(model: nn.Module) -> frozenset[str]:
    from ..core.errors import ModelError
    from ..models.heads import head_parameters, plain

    names = head_parameters(model)
    if not names:
        raise ModelError(
            f"{type(plain(model)).__name__} has no head of its own: its output layer is tied to its embeddings",
            expected="a classification head, or an output layer that is not tied",
            remedy="use lora, frozen or full for a language model",
        )
    return frozenset(names)
