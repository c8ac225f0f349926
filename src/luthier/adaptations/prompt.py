"""Trained embeddings before every text: the prompt is learned, and the model stays as it is.

Source: Lester et al. 2021 (prompt tuning, arXiv:2104.08691); the prompt begins as embeddings of tokens drawn from the
vocabulary, so that its first answers are not the base's: a reference is the model with that first prompt. In packs it
goes before each sequence, positions counting from the prompt on; rows that branch are laid out as sequences of their
own, and texts are generated padded, since beginnings could not be shared. The usual rate, 3e-2, is one for a first try.
Errors: ModelError where text and prompt exceed the model's positions, for files that do not fit, and always for merge.
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

__all__ = ["PromptTuning"]


class PromptTuning(Adaptation):
    """The prompt moves, and a classification head; everything else is frozen."""

    example: ClassVar[dict[str, Any]] = {"length": 20}
    usual_lr: ClassVar[float] = 3e-2
    begins_at_base: ClassVar[bool] = False

    length: int = Field(20, gt=0, description="embeddings that go before a text; they take as many positions")
    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    @property
    def positions(self) -> int:
        return self.length

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterator[Problem]:
        from ..models.groups import head_scale_problems, unfoldable_problems

        yield from head_scale_problems(self.head_scale, phase)
        yield from unfoldable_problems(recipe, phase, "prompt")

    def apply(self, model: nn.Module) -> nn.Module:
        from ..models.groups import train_only
        from ..models.prompt import attach_prompt, has_prompt

        if has_prompt(model):
            raise ModelError(
                "the model already carries a prompt",
                expected="one phase with prompt in a recipe",
                remedy="train both phases' data in one phase, or use lora, which can be folded in between",
            )
        attach_prompt(model, self.length)
        train_only(model, _trained(model))
        return model

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        return parameter_groups(model, _trained(model), head_scale=self.head_scale)

    def save(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import weights_of, write_weights

        write_weights(folder, weights_of(model, _trained(model)), {"adaptation": "prompt"})

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import read_weights, weights_of

        read_weights(folder, weights_of(model, _trained(model)))

    def merge(self, model: nn.Module) -> NoReturn:
        raise ModelError(
            "a prompt cannot be folded into the weights: it is part of what the model reads",
            expected="an adaptation that changes weights, for a merged model or a phase after this one",
            remedy="use lora, or keep the prompt beside its base: apply it to the base, then load its folder",
        )


def _trained(model: nn.Module) -> frozenset[str]:
    from ..models.groups import classification_head

    own = {name for name, _ in model.named_parameters() if name.endswith("prompt.weight")}
    return frozenset(own | set(classification_head(model)))
