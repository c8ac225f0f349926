"""Chosen layers and the head train, the rest stays frozen; if wanted, unfrozen one by one from the top.

Gradual unfreezing and layer-wise rates: Howard and Ruder 2018 (ULMFiT, arXiv:1801.06146, sections 3.2 and 3.3). Units:
`gradual` is a share of the phase's steps. Errors: ModelError for a layer, range or name that the model does not have,
with what it has. The usual rate is that of full fine-tuning, 5e-5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from ..core.contracts import Adaptation, ParameterGroup
from ..core.errors import ModelError, Problem, nearest
from ..core.problems import refused

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = ["Frozen"]


class Frozen(Adaptation):
    """The chosen layers move, and the head; what lies between the last layer and the head moves with the last layer."""

    example: ClassVar[dict[str, Any]] = {"train": "last:2", "gradual": 0.3}
    usual_lr: ClassVar[float] = 5e-5

    train: float | str | tuple[int | str, ...] = Field(
        "last:2",
        description="'last:2', a range '0-3', a share of the layers from the top (0.5), or a list of layer numbers "
        "(negative ones from the top), ranges and names with * and ?",
    )
    embeddings: bool = Field(False, description="the embeddings train too; with a tied output layer, so does that")
    gradual: float = Field(
        0.0, ge=0, lt=1, description="the layers are unfrozen from the top over this share of the steps; true means 0.5"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each layer's rate is this times that of the layer above it"
    )
    head_scale: float = Field(1.0, gt=0, description="a classification head's rate, as a multiple of the phase's")

    @field_validator("gradual", mode="before")
    @classmethod
    def _half(cls, value: Any) -> Any:
        return 0.5 * value if isinstance(value, bool) else value

    @field_validator("train")
    @classmethod
    def _share(cls, value: Any) -> Any:
        if isinstance(value, float) and not 0 < value <= 1:
            raise refused(
                Problem(
                    f"a share of the layers lies above 0 and up to 1, and this is {value:g}",
                    remedy="the top two layers are 'last:2', layer 2 alone is [2]",
                )
            )
        return value

    @property
    def learns_tokens(self) -> bool:
        return self.embeddings

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        from ..models.groups import head_scale_problems

        return head_scale_problems(self.head_scale, phase)

    def apply(self, model: nn.Module) -> nn.Module:
        """All that will ever train is set to train, so that its memory and its start are known; `at` holds it back."""
        from ..models.groups import train_only

        train_only(model, self._trained(model))
        return model

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        from ..models.groups import parameter_groups

        return parameter_groups(model, self._trained(model), layer_decay=self.layer_decay, head_scale=self.head_scale)

    def at(self, progress: float, model: nn.Module) -> None:
        """Unfreezes from the top: with a head and k layers, the i-th from the top moves from gradual * i / k on."""
        if self.gradual == 0.0:
            return
        from ..models.groups import train_only
        from ..models.heads import head_parameters

        trained = self._trained(model)
        head = trained & frozenset(head_parameters(model))
        stages = self._stages(model, trained - head)
        # Without a head something must move from the first step: the top layer takes its place.
        first = 1 if head else 0
        begun = [names for i, names in enumerate(stages, first) if progress >= self.gradual * i / len(stages)]
        train_only(model, head.union(*begun))

    def save(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import weights_of, write_weights

        write_weights(folder, weights_of(model, self._trained(model)), {"adaptation": "frozen"})

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import read_weights, weights_of

        read_weights(folder, weights_of(model, self._trained(model)))

    def merge(self, model: nn.Module) -> nn.Module:
        return model

    def _stages(self, model: nn.Module, names: Collection[str]) -> list[frozenset[str]]:
        """The parameters by depth, the top first; a final norm moves with the top layer that trains."""
        from ..models.groups import depths

        depth = depths(model)
        above = max(depth.values())
        inner = max((depth[name] for name in names if depth[name] < above), default=above)
        stages: dict[int, set[str]] = {}
        for name in names:
            stages.setdefault(min(depth[name], inner), set()).add(name)
        return [frozenset(stages[key]) for key in sorted(stages, reverse=True)]

    def _trained(self, model: nn.Module) -> frozenset[str]:
        """Names of all parameters that will ever train."""
        from ..models.groups import depths
        from ..models.heads import embedding_parameters, head_parameters, layers

        count = len(layers(model))
        depth = depths(model)
        numbers: set[int] = set()
        found: set[str] = set(head_parameters(model))
        if isinstance(self.train, float):
            numbers.update(range(count - math.ceil(self.train * count), count))
        else:
            for item in (self.train,) if isinstance(self.train, str) else self.train:
                chosen = _layer_numbers(item, count)
                if chosen is None:
                    found |= _named(str(item), list(depth))
                else:
                    numbers.update(chosen)
        if count - 1 in numbers:
            numbers.add(count)  # the final norm lies above the last layer and learns with it
        found |= {name for name, place in depth.items() if place - 1 in numbers}
        if self.embeddings:
            found |= set(embedding_parameters(model))
        return frozenset(found)


def _layer_numbers(item: int | str, count: int) -> Iterable[int] | None:
    """The layer numbers that an item of `train` means, None for a name.

    Errors: ModelError beyond the layers there are.
    """
    if isinstance(item, int):
        numbers = range(item + count, item + count + 1) if item < 0 else range(item, item + 1)
    elif match := re.fullmatch(r"last:(\d+)", item):
        numbers = range(count - int(match[1]), count)
    elif match := re.fullmatch(r"(\d+)-(\d+)", item):
        numbers = range(int(match[1]), int(match[2]) + 1)
    else:
        return None
    if not len(numbers) or numbers[0] < 0 or numbers[-1] >= count:
        raise ModelError(
            f"train: {item} names layers that the model does not have",
            expected=f"layers 0 to {count - 1}, or 'last:1' to 'last:{count}'",
        )
    return numbers


def _named(pattern: str, names: list[str]) -> set[str]:
    """Parameters that the pattern names, or that lie in a module that it names. Errors: ModelError for none."""
    found = {name for name in names if any(_matches(part, pattern) for part in _parts(name))}
    if not found:
        near = nearest(pattern, {part.rpartition(".")[2] for name in names for part in _parts(name)})
        raise ModelError(
            f"train: '{pattern}' matches nothing in the model",
            expected="the name of a layer, module or weight, such as " + ", ".join(_outline(names)),
            remedy=f"did you mean '{near}'?" if near else "see the names with model.named_parameters()",
        )
    return found


def _parts(name: str) -> Iterable[str]:
    """The name and those of the modules that it lies in."""
    return accumulate(name.split("."), lambda outer, inner: f"{outer}.{inner}")


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _outline(names: list[str]) -> list[str]:
    """What exists, once each: names without layer numbers, the first twenty."""
    plain = dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name).rpartition(".")[0] for name in names)
    return list(plain)[:20]
