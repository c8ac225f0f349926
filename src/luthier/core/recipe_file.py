"""Recipes from files and names: YAML with line numbers, `key.path=value` overrides, the recipes that ship."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from .embedded import embedded_recipes
from .errors import Problem, RecipeError, nearest
from .plain_yaml import as_text, lines_of, parse
from .recipe import Phase, Recipe

__all__ = ["apply_overrides", "dump", "load_recipe", "recipe_path"]

RECIPES = Path(__file__).parent.parent / "recipes"


def recipe_path(source: str | Path) -> Path:
    """The file of a recipe given by path or by the name of one that ships.

    Errors: RecipeError with the nearest name.
    """
    path = Path(source)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # a name that is too long, or a folder that may not be read
        raise RecipeError(
            f"the recipe cannot be looked at: {error.strerror}",
            where=str(source)[:80],
            expected="a YAML file, a run folder, or one of " + ", ".join(embedded_recipes()),
            remedy="see whether the name is right, and whether you may read the folder",
        ) from error
    if is_file:
        if path.suffix in (".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".xz", ".zst"):
            raise RecipeError(
                f"{path} is a data file, not a recipe",
                expected="a YAML file, a run folder, or one of " + ", ".join(embedded_recipes()),
                remedy=f"give it to a recipe: luthier run RECIPE data.train={path}",
            )
        return path
    if is_folder and (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    shipped = RECIPES / f"{source}.yaml"
    if shipped.is_file() and shipped.parent == RECIPES:
        return shipped
    beside = [str(file) for kind in ("*.yaml", "*.yml") for file in path.parent.glob(kind)]
    near = nearest(str(source), [*beside, *embedded_recipes()])
    if is_folder:
        beside = [str(file) for kind in ("*.yaml", "*.yml") for file in path.glob(kind) if file.is_file()]
        near = beside[0] if beside else None
    raise RecipeError(
        f"'{source}' is a folder without a recipe.yaml" if is_folder else f"there is no recipe '{source}'",
        expected="a YAML file, a run folder, or one of " + ", ".join(embedded_recipes()),
        remedy=f"did you mean '{near}'?" if near else "luthier list recipes shows those that ship",
    )


def load_recipe(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Sequence[str] = (),
    outside: Callable[[Mapping[str, Any]], Sequence[Problem]] | None = None,
) -> Recipe:
    """A checked recipe. outside: finds what is wrong with files and models that the plain recipe names.

    Errors: RecipeError with every problem, each with file and line where it has one.
    """
    if isinstance(source, Recipe) and not overrides and outside is None:
        return Recipe.of(source)
    lines: dict[str, int] = {}
    where = "recipe"
    if isinstance(source, (str, Path)):
        path = recipe_path(source)
        where = str(path)
        value, lines = _parse(path)
    else:
        value = source.plain() if isinstance(source, Recipe) else json.loads(json.dumps(dict(source), default=str))
    written, value = value, apply_overrides(value, overrides)
    problems = list(outside(value)) if outside else []
    recipe = None
    try:
        recipe = Recipe.of(value)
    except RecipeError as error:
        problems = [*error.problems, *problems]
    if recipe is None or problems:
        given = [_override_of(problem.where or "", written, overrides) for problem in problems]
        raise RecipeError(
            [
                _placed(problem, _named(override), {}) if override else _placed(problem, where, lines)
                for problem, override in zip(problems, given, strict=True)
            ]
        )
    return recipe


def _parse(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        value, node = parse(text)
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"this is not UTF-8 text: {error.reason} at byte {error.start}",
            where=str(path),
            expected="a YAML file in UTF-8",
            remedy="save it as UTF-8",
        ) from error
    except OSError as error:
        raise RecipeError(
            f"the file cannot be read: {error.strerror}", where=str(path), remedy="see whether you may read it"
        ) from error
    except yaml.reader.ReaderError as error:
        raise RecipeError(
            f"the character U+{error.character:04X} cannot stand in YAML",
            where=f"{path}:{text.count(chr(10), 0, error.position) + 1}",
            expected="printable text",
            remedy="take it out; a file with many of them is no text",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise RecipeError(
            f"this is not valid YAML: {getattr(error, 'problem', None) or error}",
            where=f"{path}:{mark.line + 1}" if mark else str(path),
            remedy="check indentation, brackets and quotes at this line",
        ) from error
    except RecipeError as error:
        raise RecipeError([problem.at(str(path)) for problem in error.problems]) from error
    if not isinstance(value, dict) or node is None:
        kind = "empty" if value is None else "a list" if isinstance(value, list) else "a single value"
        raise RecipeError(
            f"a recipe is a mapping of keys, and this is {kind}",
            where=str(path),
            expected="name, model, data, phases, ...",
            remedy="start from one that ships: luthier list recipes",
        )
    return value, lines_of(node)


def _placed(problem: Problem, where: str, lines: Mapping[str, int]) -> Problem:
    place = problem.where or ""
    probe = place
    while probe and probe not in lines:
        probe = probe.rpartition(".")[0]
    at = f"{where}:{lines[probe]}" if probe else where
    return replace(problem, where=f"{at}: {place}" if place else at)


def _override_of(place: str, written: Mapping[str, Any], overrides: Sequence[str]) -> str | None:
    """The last override that gave what stands at a place; None where the recipe's own line holds.

    What an override changed inside of a mapping or list does not make the whole its own.
    """
    found, before = None, _value_at(written, place)
    for count, override in enumerate(overrides, start=1):
        after = _value_at(apply_overrides(written, overrides[:count]), place)
        new = not isinstance(after, (dict, list)) or not isinstance(before, (dict, list)) or after == _given(override)
        if new and repr(after) != repr(before):  # repr, since NaN is unlike itself
            found = override
        before = after
    return found


def _value_at(value: Any, place: str) -> Any:
    for key in place.split("."):
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, Mapping) and key in value:
            value = value[key]
        else:
            return ...  # absent, which is not null
    return value


def apply_overrides(value: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The mapping with `key.path=value` applied.

    A part of the path may be a position in a list, the name of a phase, or the name of a component in a list
    (`checks.forgetting.on=general.jsonl`); with one phase, its keys may be given without `phases.0`.
    Errors: RecipeError naming the override.
    """
    result: dict[str, Any] = json.loads(json.dumps(dict(value)))
    for override in overrides:
        path, equals, _ = override.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            torn = any(sign in override for sign in "{}[]:")  # the shell parts a value at its spaces
            raise RecipeError(
                f"'{override}' is no override",
                where=_named(override),
                expected="key.path=value, for example phases.0.epochs=3",
                remedy="put quotes around an override with spaces: 'optimizer={adamw: {lr: 1e-4}}'"
                if torn
                else "write it without dashes and without spaces around the =",
            )
        given = _given(override)
        if keys[0] in _phase_keys() and len(result.get("phases") or [{}]) == 1:
            keys = ["phases", "0", *keys]
        result.setdefault("phases", [{}]) if keys[0] == "phases" else None
        _set(result, keys, given, override)
    return result


def _named(override: str) -> str:
    """An override as a problem's place, in one line."""
    line = " ".join(override.split())
    return f"override {line}" if len(line) <= 100 else f"override {line[:100]}..."


def _given(override: str) -> Any:
    """The value that an override gives, read as YAML; text where it is none."""
    text = override.partition("=")[2]
    try:
        return parse(text)[0]
    except yaml.YAMLError:
        return text
    except RecipeError as error:
        raise RecipeError([problem.at(_named(override)) for problem in error.problems]) from error


def _phase_keys() -> set[str]:
    own = {info.alias or name for name, info in Phase.model_fields.items()}
    return own - {info.alias or name for name, info in Recipe.model_fields.items()}


def _set(target: Any, keys: Sequence[str], given: Any, override: str) -> None:
    key, *rest = keys
    if isinstance(target, list):
        index = _position(target, key, override)
        if rest:
            target[index] = _opened(target[index])
            inner = target[index]
            if isinstance(inner, dict) and list(inner) == [key]:
                inner[key] = _opened(inner[key])
                inner = inner[key]
            _set(inner, rest, given, override)
        else:
            target[index] = given
    elif isinstance(target, dict):
        if rest:
            child = target.get(key)
            # A path or a component's bare name opens into a mapping, so that its keys can be set.
            if isinstance(child, str) and key in ("train", "validation", "test"):
                child = {"path": child}
            elif isinstance(child, str) and rest[0] != child:
                child = {}
            target[key] = _opened(child)
            _set(target[key], rest, given, override)
        else:
            target[key] = given
    else:
        raise RecipeError(
            "the path goes below a plain value",
            where=_named(override),
            expected="the path of a key that is there, or that its component has",
        )


def _opened(child: Any) -> Any:
    if isinstance(child, str):
        return {child: {}}
    return {} if child is None else child


def _position(items: list[Any], key: str, override: str) -> int:
    if key.isdecimal() and int(key) < len(items):
        return int(key)
    for index, item in enumerate(items):
        if item == key or (isinstance(item, dict) and (item.get("name") == key or list(item) == [key])):
            return index
    named = [item.get("name") or next(iter(item), None) if isinstance(item, dict) else item for item in items]
    there = [*map(str, range(len(items))), *(str(name) for name in named if name is not None)]
    raise RecipeError(
        f"the path names '{key}', which is not in the list",
        where=_named(override),
        expected="one of " + ", ".join(there) if there else "a list with something in it; this one is empty",
    )


def dump(recipe: Recipe) -> str:
    """The recipe as YAML that reads back to an equal one."""
    return as_text(recipe.plain())
