"""What adaptations share that ask a language model for the words of classes: the template, and what goes with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .errors import ModelError, Problem
from .on_policy import judges_of

if TYPE_CHECKING:
    from .recipe import Phase, Recipe

__all__ = ["TEMPLATE", "Words", "checked_template", "not_mergeable", "problems_of_words"]

TEMPLATE = "{text}\nThis is about {label}."
Words = Annotated[str, Field(pattern=r"\S")]
"""What stands for a class: a class without a token would be certain."""


def checked_template(template: str) -> str:
    """The template. Errors: ValueError where {text} or {label} is not in it once, the text first."""
    if template.count("{text}") != 1 or template.count("{label}") != 1:
        raise ValueError("the template needs one {text} and one {label}")
    if template.index("{text}") > template.index("{label}"):
        raise ValueError("{text} comes before {label}, which is told from it")
    return template


def problems_of_words(name: str, recipe: Recipe, phase: Phase | None) -> Iterator[Problem]:
    """What is wrong with a phase whose adaptation `name` trains nothing and asks for the words of classes."""
    if phase is None:
        return
    objective = phase.objective.component_name()
    if objective != "classify":
        yield Problem(
            f"{name} names classes, and the objective is {objective}",
            expected="the objective classify",
            remedy="set objective: classify",
        )
    for field in ("epochs", "steps", "penalties"):
        if getattr(phase, field):
            yield Problem(f"{field} is read by nothing: {name} trains nothing", remedy=f"remove {field}")
    for field in ("label_smoothing", "class_weights"):
        if field in phase.objective.model_fields_set:
            yield Problem(f"{field} is read by nothing: {name} trains nothing", remedy=f"remove {field}")
    names = [one.name for one in recipe.phases]
    for number, later in enumerate(recipe.phases[1:], 1):
        start = later.from_ if later.from_ in names else names[number - 1] if later.from_ is None else None
        if start == phase.name:
            yield Problem(
                f"the phase '{later.name}' starts from '{phase.name}', of which nothing can be folded in",
                expected=f"{name} in the last phase",
                remedy="start the later phase from another with from:",
            )
        elif phase.name in (*later.objective.sources().values(), *judges_of(later.objective)):
            yield Problem(
                f"the phase '{later.name}' asks '{phase.name}', of which nothing can be folded in",
                expected="a teacher whose adaptation can be merged",
                remedy="run this phase by a recipe of its own, and name that run",
            )


def not_mergeable(name: str) -> ModelError:
    """Why the model has no merged form."""
    return ModelError(
        f"{name} asks a language model for the words of classes, which no head of transformers does",
        expected="an adaptation of weights, for a merged model",
        remedy="use lora or full with the objective classify, or keep it beside its base, as luthier export does",
    )
