"""What can be known to be wrong before anything is loaded: the recipe, and the files, models and packages it names.

Works on the recipe's plain values, so that an absent file is told together with a misspelled key. No torch here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..core.component import build
from ..core.errors import LuthierError, MissingExtra, Problem
from ..core.recipe import Phase, Recipe
from ..core.recipe_file import load_recipe
from ..core.run import recorded_files
from ..data.inputs import recorded_under
from ..data.places import path_problems
from ..models.files import CONFIG, read_json
from ..models.source import check_source, resolve
from .doctor import EXTRAS

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
    found.extend(_layers(value.get("model"), phases))
    found.extend(_data(value.get("data"), "data", known))
    for number, phase in enumerate(phases):
        found.extend(_data(phase.get("data"), f"phases.{number}.data", known))
    for number, check in enumerate(_list(value.get("checks"))):
        for name, parameters in check.items() if isinstance(check, Mapping) else ():
            if isinstance(parameters, Mapping) and isinstance(parameters.get("on"), str):
                found.extend(_at(f"checks.{number}.{name}.on", _path(parameters["on"], known)))
    found.extend(_extras(phases))
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
    config = _config(source)
    own = config.get("max_position_embeddings") or config.get("n_positions")
    if "relative_attention_num_buckets" in config:  # T5 has no last position
        return None
    return own if isinstance(own, int) else None


def _config(source: str) -> Mapping[str, Any]:
    """The model's configuration; empty where it is not on this machine."""
    try:
        folder = resolve(source).folder
        return read_json(folder / CONFIG) if folder is not None and (folder / CONFIG).is_file() else {}
    except LuthierError:
        return {}


def _starts(phases: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Models that phases start from or learn by, whose names are nearly those of phases; starts that cannot be opened.

    Teachers and reward models are examined with the data, and not where the phase that asks them is finished.
    """
    names = [_name(phase) for phase in phases]
    for number, phase in enumerate(phases):
        for place, source in _sources(phase):
            if source in names:
                continue
            bare = not set(source) & set("/:@\\") and not Path(source).exists()
            near = get_close_matches(source, names, n=1, cutoff=0.6) if bare else []
            if near:
                yield Problem(
                    f"'{source}' is no phase of this recipe, and no folder",
                    f"phases.{number}.{place}",
                    f"a phase ({', '.join(names)}), a run, a folder or a hub id",
                    f"did you mean '{near[0]}'?",
                )
            elif place == "from":
                yield from _at(f"phases.{number}.from", check_source(source))


def _name(phase: Mapping[str, Any]) -> str:
    return str(phase.get("name", Phase.model_fields["name"].default))


def _sources(phase: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The places in a phase that name a model: its start, a teacher, reward models."""
    if isinstance(start := phase.get("from"), str):
        yield "from", start
    objective = phase.get("objective")
    for name, parameters in objective.items() if isinstance(objective, Mapping) else ():
        if not isinstance(parameters, Mapping):
            continue
        if isinstance(teacher := parameters.get("teacher"), str):
            yield f"objective.{name}.teacher", teacher
        for number, reward in enumerate(_list(parameters.get("rewards"))):
            model = reward.get("model") if isinstance(reward, Mapping) else None
            if isinstance(model, Mapping) and isinstance(source := model.get("source"), str):
                yield f"objective.{name}.rewards.{number}.model.source", source


def _layers(source: Any, phases: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Layers to keep that the model has not: known before the phase that makes it is trained."""
    count = _count(source)
    left: dict[str, int | None] = {}
    for number, phase in enumerate(phases):
        start, kept = phase.get("from"), [one for one in _list(phase.get("keep_layers")) if type(one) is int]
        if isinstance(start, str):
            count = left[start] if start in left else _count(start)
        beyond = [one for one in kept if count is not None and one >= count]
        if beyond and count is not None:
            yield Problem(
                f"the model has {count} layers, 0 to {count - 1}, and keep_layers names {beyond[0]}",
                f"phases.{number}.keep_layers",
                f"numbers of layers from 0 to {count - 1}",
            )
        count = left[_name(phase)] = len(kept) if kept else count


def _count(source: Any) -> int | None:
    """How many layers the model has, where its configuration is on this machine and says so."""
    own = _config(source).get("num_hidden_layers") if isinstance(source, str) else None
    return own if isinstance(own, int) else None


def _extras(phases: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Adaptations whose packages are not installed: known before the phases that come first are trained."""
    for number, phase in enumerate(phases):
        try:
            adaptation: Any = build("adaptations", phase.get("adaptation") or "full")
        except LuthierError:
            continue  # told with the recipe's own problems
        extra = adaptation.extra
        if extra is not None and importlib.util.find_spec(EXTRAS[extra][0]) is None:
            missing = MissingExtra.of(extra, f"the adaptation {adaptation.component_name()}").problems
            yield from _at(f"phases.{number}.adaptation", missing)


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
