"""States of a model's inner layers, heard while one of a role's verbs runs: one forward pass serves both.

Shapes: T tokens of a batch, H wide. A layer's state is what it hands on to the next layer, before any last norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.contracts import Batch, Models
from ..core.errors import ModelError
from ..functional.distillation import States, state_distance
from .attention import transformer_of
from .changed import layer_list
from .grid import Grid
from .prompt import has_prompt

__all__ = ["Heard", "apart", "hearing", "projections"]


@dataclass
class Heard:
    """What the layers said of a batch."""

    batch: Batch
    states: dict[int, Tensor] = field(default_factory=dict)

    def at(self, layer: int) -> Tensor:
        """[T, H] states of a layer at the batch's tokens, in its order. Errors: KeyError before the verb has run."""
        states = self.states[layer].flatten(0, 1)
        return states if len(states) == len(self.batch.ids) else states.index_select(0, Grid.of(self.batch).at)


@contextmanager
def hearing(model: nn.Module, batch: Batch, layers: Sequence[int]) -> Iterator[Heard]:
    """What these layers (from 0) say while, inside, one verb runs once on `batch`, a batch without branches.

    Errors: ModelError for layers that the model has not, for a model with a trained prompt before its texts, and for
    one that takes the batch in several parts.
    """
    inner, name = transformer_of(model), _list_with(model, layers, "model")
    heard = Heard(batch)

    def listener(number: int) -> Any:
        def listen(module: nn.Module, arguments: Any, output: Any) -> None:
            if number in heard.states:
                raise ModelError(
                    f"{type(inner).__name__} takes texts of different lengths in several parts",
                    expected="a model whose states are there at once",
                    remedy="set max_length so low that all texts have the same rotary frequencies",
                )
            heard.states[number] = output[0] if isinstance(output, tuple) else output

        return listen

    handles = [inner.get_submodule(f"{name}.{number}").register_forward_hook(listener(number)) for number in {*layers}]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _list_with(model: nn.Module, layers: Sequence[int], what: str) -> str:
    """The name of the list of a model's layers. Errors: ModelError where some of `layers` are not in it, or where other
    tokens than a text's go through it.
    """
    name, count = layer_list(transformer_of(model))
    beyond = [number for number in layers if number >= count]
    if beyond:
        raise ModelError(
            f"the {what} has {count} layers, 0 to {count - 1}, and layer {beyond[0]} is asked for",
            expected=f"numbers from 0 to {count - 1}",
        )
    if has_prompt(model):
        raise ModelError(
            f"the {what} has a trained prompt, whose tokens have states too",
            expected="an adaptation that puts nothing before texts",
            remedy="use another adaptation, such as lora",
        )
    return name


def _width_of(model: nn.Module) -> int:
    return int(transformer_of(model).config.get_text_config().hidden_size)


@contextmanager
def apart(
    models: Models, batch: Batch, pairs: Sequence[tuple[int, int]], kind: States
) -> Iterator[Callable[[], Tensor]]:
    """Inside, one verb of the policy runs on the batch; then what is given here finds [T], how far the policy's states
    are from the teacher's, in the mean over pairs of a layer of each.

    What `projections` made stands in `models.own`, where widths differ. The teacher is asked meanwhile.
    """
    if not pairs:
        yield lambda: batch.ids.new_zeros(len(batch.ids), dtype=torch.float32)
        return

    def found() -> Tensor:
        teacher = models.role("teacher")
        with torch.no_grad(), hearing(teacher.model, batch, [layer for _, layer in pairs]) as theirs:
            teacher.vectors(batch)  # its head is not needed
        distances = []
        for number, (own, other) in enumerate(pairs):
            state = ours.at(own)
            if models.own is not None:
                state = models.own.get_submodule(str(number))(state.to(torch.float32))
            distances.append(state_distance(state, theirs.at(other), kind))
        return torch.stack(distances).mean(0)

    with hearing(models.policy.model, batch, [layer for layer, _ in pairs]) as ours:
        yield found


def projections(models: Models, pairs: Sequence[tuple[int, int]]) -> nn.Module | None:
    """For each pair of layers a linear map from the policy's width to the teacher's, drawn alike every time; None where
    the widths are the same, and states are compared as they are. Errors: ModelError as in `hearing`.
    """
    if not pairs:
        return None
    student, teacher = models.policy.model, models.role("teacher").model
    _list_with(student, [layer for layer, _ in pairs], "student")
    _list_with(teacher, [layer for _, layer in pairs], "teacher")
    ours, theirs = _width_of(student), _width_of(teacher)
    if ours == theirs:
        return None
    device = next(student.parameters()).device
    generator = torch.Generator().manual_seed(0)
    maps = [nn.Linear(ours, theirs, bias=False, device=device) for _ in pairs]
    with torch.no_grad():
        for one in maps:
            one.weight.copy_(torch.randn(theirs, ours, generator=generator) / math.sqrt(ours))
    return nn.ModuleList(maps)
