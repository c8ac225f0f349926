"""What can be known to be wrong with a recipe before anything is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .contracts import Objective
from .errors import Problem, nearest
from .evidence import Check

if TYPE_CHECKING:
    from .recipe import Recipe

__all__ = ["recipe_problems"]


def recipe_problems(recipe: Recipe) -> list[Problem]:
    """All problems of a validated recipe: phases, combinations, gates, files."""
    found: list[Problem] = []
    found.extend(_phases(recipe))
    found.extend(_checks(recipe))
    found.extend(_gates(recipe))
    for place, component, phase in recipe.components():
        found.extend(problem.at(place) for problem in component.problems(recipe, phase))
    return found


def _phases(recipe: Recipe) -> Iterator[Problem]:
    names = [phase.name for phase in recipe.phases]
    for name, count in Counter(names).items():
        if count > 1:
            yield Problem(f"{count} phases are called '{name}'", "phases", "a name of its own for each phase")
    tasks = {phase.objective.task for phase in recipe.phases if isinstance(phase.objective, Objective)}
    if len(tasks) > 1 and recipe.phases[-1].objective.task == "causal_lm":
        yield Problem("a language-model phase cannot follow a classification phase: the head is gone", "phases")
    for number, phase in enumerate(recipe.phases):
        place = f"phases.{number}"
        if phase.from_ is not None and phase.from_ in names and names.index(phase.from_) >= number:
            earlier = ", ".join(names[:number]) or "none"
            yield Problem(
                f"phase '{phase.name}' starts from '{phase.from_}', which does not come before it",
                f"{place}.from",
                f"an earlier phase ({earlier}) or the folder of a run",
            )
        if phase.watch.patience is not None and recipe.data_of(phase).validation is None:
            yield Problem(
                "watch.patience stops early on validation, and there is no validation data",
                f"{place}.watch.patience",
                remedy="set data.validation to a share (0.1) or a path",
            )


def _checks(recipe: Recipe) -> Iterator[Problem]:
    task = recipe.phases[-1].objective.task
    for index, check in enumerate(recipe.checks):
        assert isinstance(check, Check)
        if task not in check.tasks:
            yield Problem(
                f"the check '{check.component_name()}' does not apply to a model for {task.replace('_', ' ')}",
                f"checks.{index}",
                "a check for " + " or ".join(sorted(t.replace("_", " ") for t in check.tasks)),
            )


def _gates(recipe: Recipe) -> Iterator[Problem]:
    from .gates import parse

    names = [check.component_name() for check in recipe.checks]
    for index, gate in enumerate(recipe.gates):
        place = f"gates.{index}"
        parsed = parse(gate)
        if isinstance(parsed, Problem):
            yield parsed.at(place)
        elif parsed.check not in names:
            near = nearest(parsed.check, names)
            yield Problem(
                f"the gate '{gate}' needs the check '{parsed.check}', which this recipe does not make",
                place,
                "one of the checks " + (", ".join(names) or "(none are named)"),
                f"did you mean '{near}'?" if near else f"add {parsed.check} to checks",
            )
