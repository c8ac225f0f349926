"""What can be known to be wrong before anything is loaded: the recipe, and the files, models and packages it names.

Works on the recipe's plain values, so that an absent file is told together with a misspelled key. No torch here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import LuthierError, MissingExtra, Problem
from ..core.recipe import Recipe
from ..core.recipe_file import load_recipe
from ..core.run import recorded_files
from ..data.inputs import recorded_under
from ..data.places import path_problems
from ..models.files import CONFIG, read_json
from ..models.source import check_source, resolve

__all__ = ["checked", "outside_problems"]


def checked(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    overrides: Sequence[str] = (),
    *,
    resumed: Callable[[Mapping[str, Any]], Path] | None = None,
) -> Recipe:
    """The recipe with its overrides. Errors: RecipeError with every problem of it and of what it names outside.

    resumed: the run folder for the recipe's plain values; data that finished stages there depended on may be gone.
    """

    def problems(value: Mapping[str, Any]) -> Sequence[Problem]:
        return outside_problems(value, recorded_files(resumed(value)) if resumed else {})

    return load_recipe(recipe, overrides, problems)


def outside_problems(value: Mapping[str, Any], recorded: Mapping[str, str] | None = None) -> list[Problem]:
    """Absent data, models that cannot be opened, limits above the model's own, packages that are not installed.

    value: a recipe's plain values, which may be wrong themselves; what is not as it should be is passed over.
    recorded: files by digest that need not be there.
    """
    known = recorded or {}
    phases = [phase for phase in _list(value.get("phases")) if isinstance(phase, Mapping)]
    found = list(_model(value.get("model"), phases))
    found.extend(_starts(phases))
    found.extend(_data(value.get("data"), "data", known))
    for number, phase in enumerate(phases):
        found.extend(_data(phase.get("data"), f"phases.{number}.data", known))
    for number, check in enumerate(_list(value.get("checks"))):
        for name, parameters in check.items() if isinstance(check, Mapping) else ():
            if isinstance(parameters, Mapping) and isinstance(parameters.get("on"), str):
                found.extend(_at(f"checks.{number}.{name}.on", _path(parameters["on"], known)))
    if "tensorboard" in _list(value.get("trackers")) and importlib.util.find_spec("tensorboard") is None:
        found.extend(_at("trackers", MissingExtra.of("tensorboard", "the tracker tensorboard").problems))
    return found


def _model(source: Any, phases: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    if not isinstance(source, str):
        return
    problems = check_source(source)
    yield from _at("model", problems)
    own = None if problems else _longest(source)
    for number, phase in enumerate(phases):
        limit = phase.get("max_length")
        if own is not None and type(limit) is int and limit > own:
            yield Problem(
                f"max_length is {limit}, and the model takes {own} tokens",
                f"phases.{number}.max_length",
                f"at most {own}",
                f"max_length={own}, or leave it out",
            )


def _longest(source: str) -> int | None:
    """How many tokens the model takes, where its configuration is on this machine and says so."""
    try:
        folder = resolve(source).folder
        config = read_json(folder / CONFIG) if folder is not None and (folder / CONFIG).is_file() else {}
    except LuthierError:
        return None
    own = config.get("max_position_embeddings") or config.get("n_positions")
    if "relative_attention_num_buckets" in config:  # T5 has no last position
        return None
    return own if isinstance(own, int) else None


def _starts(phases: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    names = [phase.get("name") for phase in phases]
    for number, phase in enumerate(phases):
        start = phase.get("from")
        if isinstance(start, str) and start not in names:
            yield from _at(f"phases.{number}.from", check_source(start))


def _path(path: str, known: Mapping[str, str]) -> Sequence[Problem]:
    return () if recorded_under(path, known) else path_problems(path)


def _data(data: Any, place: str, known: Mapping[str, str]) -> Iterator[Problem]:
    if not isinstance(data, Mapping):
        return
    for split in ("train", "validation", "test"):
        for source in _list(data.get(split)):
            path = source.get("path") if isinstance(source, Mapping) else source
            if isinstance(path, str):
                yield from _at(f"{place}.{split}", _path(path, known))


def _at(place: str, problems: Sequence[Problem]) -> Iterator[Problem]:
    """The problems at a place of the recipe; what they were placed at goes into the words."""
    for problem in problems:
        named = f"'{problem.where}': {problem.found}" if problem.where else problem.found
        yield replace(problem, found=named, where=place)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else () if value is None else (value,)
