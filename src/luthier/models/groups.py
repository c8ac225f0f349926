"""Parameter groups: learning rates by depth, faster heads, and no weight decay on norms and biases.

    depth 0            1 ... n     n + 1
          embeddings   blocks      final norm, head

Depths and their rates are those of BEiT (Bao et al. 2021, arXiv:2106.08254, its `get_num_layer`), after the
discriminative fine-tuning of ULMFiT (Howard and Ruder 2018, arXiv:1801.06146, section 3.2): scale = decay^(n + 1 -
depth).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.contracts import WRITERS, ParameterGroup
from ..core.errors import Problem
from ..core.on_policy import judges_of

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = [
    "classification_head",
    "depths",
    "head_scale_problems",
    "hidden_matrices",
    "parameter_groups",
    "part_group",
    "train_only",
    "unfoldable_problems",
]


def classification_head(model: nn.Module) -> list[str]:
    """Names of the parameters of a classification head; none for a language model, whose output layer is pretrained."""
    from .heads import head_parameters, plain

    inner = plain(model)
    output = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    return head_parameters(model) if output is None else []


def depths(model: nn.Module) -> dict[str, int]:
    """Each parameter's depth: 0 for embeddings, 1 to n for the n blocks, n + 1 for what lies above them. What closes an
    encoder whose decoder follows has the depth of the encoder's last block.
    """
    from .heads import embedding_parameters, layers

    blocks = {name: number for number, (name, _) in enumerate(layers(model), 1)}
    parts = next(iter(blocks)).count(".") + 1
    sides = {name.rpartition(".")[0].rpartition(".")[0] + ".": number for name, number in blocks.items()}
    closing = [(side, number) for side, number in sides.items() if number < len(blocks)]
    found: dict[str, int] = dict.fromkeys(embedding_parameters(model), 0)
    for name, _ in model.named_parameters():
        above = next((number for side, number in closing if name.startswith(side)), len(blocks) + 1)
        found.setdefault(name, blocks.get(".".join(name.split(".")[:parts]), above))
    return found


def hidden_matrices(model: nn.Module) -> frozenset[str]:
    """Names of the matrices that are no embedding, output layer or head."""
    from torch import nn

    from .heads import head_parameters

    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    outer = set(head_parameters(model))
    return frozenset(
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and id(parameter) not in tables and name not in outer
    )


def parameter_groups(
    model: nn.Module, names: Collection[str], *, layer_decay: float = 1.0, head_scale: float = 1.0
) -> list[ParameterGroup]:
    """The parameters called `names` in groups, each once, in the model's own order.

    layer_decay: see the module. head_scale: multiplies the rate of a classification head, and of nothing else.
    Vectors (norms, biases) are not decayed: pulling a norm's scale to zero is no regularization.
    Errors: ModelError where layer_decay is given and the model has no list of blocks.
    """
    head = frozenset(classification_head(model))
    hidden = hidden_matrices(model)
    depth = depths(model) if layer_decay != 1.0 else {}
    top = max(depth.values(), default=0)
    found: dict[str, tuple[float, bool, list[tuple[str, nn.Parameter]]]] = {}
    for name, parameter in model.named_parameters():
        if name not in names:
            continue
        if name in head:
            label, scale = "head", head_scale
        elif layer_decay != 1.0:
            label, scale = _label(depth[name], top), layer_decay ** (top - depth[name])
        else:
            label, scale = "body", 1.0
        decays = parameter.ndim > 1
        label = label if decays else f"{label}, no decay"
        found.setdefault(label, (scale, decays, []))[2].append((name, parameter))
    return [
        ParameterGroup(
            label, tuple(members), scale=scale, decay=decays, hidden=hidden.intersection(name for name, _ in members)
        )
        for label, (scale, decays, members) in found.items()
    ]


def part_group(group: ParameterGroup, mark: str, label: str, scale: float) -> list[ParameterGroup]:
    """The group without the parameters that have `mark` in their names, and these with `scale` times its rate."""
    sides = [[(name, p) for name, p in group.parameters if (mark in name) == chosen] for chosen in (False, True)]
    names = [frozenset(name for name, _ in side) for side in sides]
    parts = [
        replace(group, parameters=tuple(sides[0]), hidden=group.hidden & names[0]),
        replace(
            group,
            name=f"{group.name}, {label}",
            parameters=tuple(sides[1]),
            scale=group.scale * scale,
            hidden=group.hidden & names[1],
        ),
    ]
    return [part for part in parts if part.parameters]


def train_only(model: nn.Module, names: Collection[str]) -> None:
    """Sets requires_grad on the parameters called `names` and takes it from all others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def head_scale_problems(head_scale: float, phase: Phase | None) -> Iterator[Problem]:
    """A head_scale where no head is new would be ignored, which is an error."""
    if head_scale != 1.0 and phase is not None and phase.objective.task in WRITERS:
        yield Problem(
            f"head_scale is {head_scale:g}, and a language model has no fresh head to hurry",
            expected="an objective with a classification head, such as classify",
            remedy="remove head_scale",
        )


def unfoldable_problems(recipe: Recipe, phase: Phase | None, what: str) -> Iterator[Problem]:
    """A phase that starts from the result of another, or asks it as a teacher or reward model, whose adaptation cannot
    be folded into weights.
    """
    names = [one.name for one in recipe.phases]
    for number, later in enumerate(recipe.phases[1:], 1):
        start = later.from_ if later.from_ in names else names[number - 1] if later.from_ is None else None
        if phase is not None and start == phase.name:
            yield Problem(
                f"the phase '{later.name}' starts from '{phase.name}', whose {what} cannot be folded in",
                expected=f"an adaptation that can be merged, or the {what} in the last phase",
                remedy="use lora or full here, or start the later phase from another with from:",
            )
        elif phase is not None and phase.name in (*later.objective.sources().values(), *judges_of(later.objective)):
            yield Problem(
                f"the phase '{later.name}' asks '{phase.name}', whose {what} cannot be folded in",
                expected="an adaptation that can be merged",
                remedy="use lora or full here, or train this phase by a recipe of its own and name that run",
            )


def _label(depth: int, top: int) -> str:
    return "embeddings" if depth == 0 else "top" if depth == top else f"layer {depth - 1}"
