"""Pulls the weights to where they started, not to zero, and a classification head to zero (L2-SP).

    weight / 2 * ||w - w0||^2 + head_weight / 2 * ||h||^2

Source: Li, Grandvalet and Davoine 2018 (arXiv:1802.01483, equation 3). Units: the sum is added to the step's loss once,
whatever the batch. Adapters are penalized for the change that they make to the weights, ||s B A - s B0 A0||^2, summed
over layers. Differs from weight decay: it is part of the gradient that the optimizer sees. Errors: RecipeError and
ModelError with adapters whose change of the weights is not s B A, and where nothing of the body moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Models, Penalty, Term
from ..core.errors import ModelError, Problem

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..core.recipe import Phase, Recipe

__all__ = ["L2SP"]


class L2SP(Penalty):
    """Of shape [1], and counted once a step. Float32 whatever the model's dtype."""

    example: ClassVar[dict[str, Any]] = {"weight": 0.1, "head_weight": 0.01}

    weight: float = Field(0.01, ge=0, description="of the distance from the start")
    head_weight: float = Field(0.01, ge=0, description="of the size of a classification head; 0 leaves it free")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        name = phase.adaptation.component_name() if phase is not None else ""
        if name in ("bottleneck", "peft", "prompt", "prefix") or getattr(phase and phase.adaptation, "dora", False):
            yield _NO_WEIGHTS
        if name == "head":
            yield Problem(
                "l2_sp pulls the body to its start, and under the adaptation head the body does not move",
                remedy="remove l2_sp; the optimizer's weight_decay pulls the head to zero",
            )

    def begin(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Copies of what will move in the body, as it is now: call it before the first step, on the adapted model."""
        from ..functional.adapters import Bottleneck
        from ..functional.prefix import Prefix
        from ..models.prompt import has_prompt

        names = [name for name, parameter in _body(model).items() if parameter.requires_grad]
        wrapped = hasattr(model, "peft_config") and any(".lora_A." not in n and ".lora_B." not in n for n in names)
        if wrapped or has_prompt(model) or any(isinstance(module, (Bottleneck, Prefix)) for module in model.modules()):
            raise ModelError([_NO_WEIGHTS])
        start = {name: parameter.detach().clone() for name, parameter in _body(model).items()}
        if not start:
            raise ModelError(
                "l2_sp pulls the body to its start, and no weight of the body moves",
                remedy="remove l2_sp, or choose an adaptation that moves the body",
            )
        return start

    def terms(self, models: Models, batch: Batch | None, state: Mapping[str, Tensor]) -> list[Term]:
        import torch

        from ..models.groups import classification_head

        model = models.policy.model
        parameters = dict(model.named_parameters())
        near = [(parameters[name].float() - state[name].float()).square().sum() for name in _dense(state)]
        near += _adapter_changes(model, state)
        total = self.weight / 2 * torch.stack(near).sum()
        if self.head_weight:
            head = [parameters[name].float().square().sum() for name in classification_head(model)]
            total = total + self.head_weight / 2 * sum(head)
        return [Term("l2_sp", total.reshape(1))]


_NO_WEIGHTS = Problem(
    "l2_sp measures how far weights moved, which is not known of what this adaptation adds",
    expected="an adaptation that changes weights: full, frozen, bitfit, or lora without dora",
    remedy="use lora, or remove l2_sp",
)


def _body(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that will move, but for a classification head."""
    from ..models.groups import classification_head

    head = frozenset(classification_head(model))
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad and name not in head
    }


def _dense(state: Mapping[str, Tensor]) -> Iterable[str]:
    return (name for name in state if ".lora_A." not in name and ".lora_B." not in name)


def _adapter_changes(model: nn.Module, state: Mapping[str, Tensor]) -> Iterable[Tensor]:
    """||s (B A - B0 A0)||^2 of every adapted layer."""
    from ..functional.low_rank import squared_norm_of_change

    for name, module in model.named_modules():
        for adapter, scale in getattr(module, "scaling", {}).items() if hasattr(module, "lora_A") else ():
            down, up = f"{name}.lora_A.{adapter}.weight", f"{name}.lora_B.{adapter}.weight"
            if up in state:
                yield scale**2 * squared_norm_of_change(
                    module.lora_B[adapter].weight, module.lora_A[adapter].weight, state[up], state[down]
                )
