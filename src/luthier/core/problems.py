"""Pydantic's errors in the words of a recipe: the place, what was found, what fits there, the remedy."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from .errors import Problem, nearest

__all__ = ["problems_of", "refused"]

_Path = tuple[int | str, ...]
_PLAIN = frozenset({"float", "int", "str", "bool"})
_RATE = "lr of the optimizer, for example optimizer.adamw.lr=1e-4"
_STEP = "per_step, the whole of a step: per_step={rows: 16} or per_step={tokens: 4096}"
_ELSEWHERE = {
    "learning_rate": _RATE,
    "lr": _RATE,
    "batch_size": _STEP,
    "train_batch_size": _STEP,
    "per_device_train_batch_size": _STEP,
    "gradient_accumulation_steps": _STEP + "; how a step is cut up follows from memory, or from machine.micro_tokens",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "max_seq_length": "max_length",
    "bf16": "machine.dtype=bfloat16",
    "fp16": "machine.dtype=bfloat16; float16 is not trained in",
    "lora_r": "adaptation.lora.rank=16",
    "lora_rank": "adaptation.lora.rank=16",
    "lora_alpha": "adaptation.lora.alpha=32",
}
"""What keys of other trainers are called in a recipe; they are the first ones that a newcomer writes."""


def refused(*problems: Problem) -> PydanticCustomError:
    """What a validator raises for problems in our words; `problems_of` gives them back at the field's place."""
    return PydanticCustomError(
        "luthier_problems",
        "{text}",
        {
            "text": "\n".join(map(str, problems)),
            "problems": [
                {"found": p.found, "where": p.where, "expected": p.expected, "remedy": p.remedy} for p in problems
            ],
        },
    )


def problems_of(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Every error of a validation as a Problem with a dotted place; nested component problems are unfolded."""
    items: list[tuple[_Path, Mapping[str, Any]]] = [
        (_place(item["loc"], model, item["type"] == "extra_forbidden"), dict(item))
        for item in error.errors(include_url=False)
    ]
    deeper = {path[:end] for path, _ in items for end in range(len(path))}
    problems: list[Problem] = []
    forms: dict[_Path, list[Mapping[str, Any]]] = {}
    for path, item in items:
        # A list whose items are wrong is reported as too short as well, and a union's other forms as wrong types.
        if path not in deeper:
            forms.setdefault(path, []).append(item)
    for path, found in forms.items():
        where = ".".join([*filter(None, [prefix]), *map(str, path)])
        problems.extend(_one(found, path, where, model))
    return problems


def _one(items: Sequence[Mapping[str, Any]], path: _Path, where: str, model: type[BaseModel]) -> Iterator[Problem]:
    """The problems of one place: several items are the forms of a union, none of which fits."""
    item = items[0]
    if item["type"] == "luthier_problems":
        for nested in item["ctx"]["problems"]:
            inner = Problem(**nested)
            place = f"{where}.{inner.where}" if inner.where else where
            yield Problem(inner.found, place, inner.expected, inner.remedy)
    elif item["type"] == "extra_forbidden":
        yield _unknown(str(path[-1]), where, _models_at(model, path[:-1]))
    elif item["type"] == "missing" and isinstance(path[-1], int):
        yield Problem("the list is too short", where.rpartition(".")[0], f"at least {path[-1] + 1} items")
    elif item["type"] == "missing":
        info = _field_at(model, path)
        example = _example(where, info)
        yield Problem(
            f"'{path[-1]}' is missing",
            where,
            info.description if info else None,
            f"give it: {example}" if example else None,
        )
    elif item["type"] == "value_error":
        yield Problem(item["msg"].removeprefix("Value error, ") + _got(item), where)
    else:
        yield _unfit(items, path, where, _field_at(model, path))


def _unfit(items: Sequence[Mapping[str, Any]], path: _Path, where: str, info: FieldInfo | None) -> Problem:
    """A value of a wrong type or out of its bounds."""
    item = items[0]
    given = item.get("input")
    wanted = [form["msg"].removeprefix("Input should be ").partition(", unable")[0] for form in items]
    expected = " or ".join(dict.fromkeys(map(_plain, wanted)))
    if info is not None and info.description:
        expected += f" ({info.description})"
    example = _example(".".join(map(str, path)), info)
    remedy = f"for example {example}" if example else None
    if isinstance(given, str) and given.startswith(("[", "{")):
        remedy = "close the brackets: this was read as text"
    elif item["type"] == "tuple_type" and isinstance(given, str):
        remedy = f"write [{given}]"
    return Problem(f"{json.dumps(given, default=str)[:80]} does not fit here", where, expected, remedy)


def _plain(wanted: str) -> str:
    """What pydantic expects, in words that need no Python."""
    if wanted.startswith("a valid tuple"):
        return "a list"
    if wanted.startswith("a valid dictionary"):
        return "a mapping of keys"
    if "should have at least" in wanted:
        return "at least" + wanted.partition("at least")[2].removesuffix(" after validation, not 0")
    if wanted.startswith("String should match pattern"):
        return "text that fits" + wanted.partition("pattern")[2].replace("'", "")
    if wanted.startswith("String should have at most"):
        return "text of at most" + wanted.partition("at most")[2]
    if wanted.startswith("a valid boolean"):
        return "true or false"
    return wanted.replace("a valid string", "text").replace("a valid ", "a ").replace("a integer", "a whole number")


def _unknown(key: str, where: str, models: Sequence[type[BaseModel]]) -> Problem:
    known = [info.alias or name for owner in models for name, info in owner.model_fields.items()]
    near = nearest(key, known)
    inside = _inside(key, models)
    if ":" in key:
        name, _, value = key.partition(":")
        remedy = f"YAML wants a space after a key's colon: {name}: {value}"
    elif key in _ELSEWHERE:
        remedy = f"here this is {_ELSEWHERE[key]}"
    elif inside is not None and (near is None or _likeness(key, inside[1]) > _likeness(key, near)):
        remedy = (
            f"'{inside[1]}' belongs into {inside[0]}{', such as phases.0.' + key if inside[0] == 'phases' else ''}"
            if inside[1] == key
            else f"did you mean '{inside[1]}', in {inside[0]}?"
        )
    else:
        remedy = f"did you mean '{near}'?" if near else "remove it; an option that nothing reads is an error"
    return Problem(f"unknown key '{key}'", where, "one of " + ", ".join(sorted(known)) if known else None, remedy)


def _inside(key: str, models: Sequence[type[BaseModel]]) -> tuple[str, str] | None:
    """(parent keys, key) one level below `models` that is most like `key`."""
    below = [
        (parent, info.alias or name)
        for owner in models
        for parent, held in owner.model_fields.items()
        for inner in _models_in(held.annotation)
        for name, info in inner.model_fields.items()
    ]
    near = nearest(key, [name for _, name in below])
    return (" or ".join(dict.fromkeys(parent for parent, name in below if name == near)), near) if near else None


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _got(item: Mapping[str, Any]) -> str:
    given = item.get("input")
    return "" if isinstance(given, (dict, BaseModel)) else f" (got {json.dumps(given, default=str)[:80]})"


def _example(where: str, info: FieldInfo | None) -> str | None:
    """`key.path=value` from the field's first example."""
    if info is None or not info.examples:
        return None
    value = info.examples[0]
    if isinstance(value, Mapping):
        key, value = next(iter(value.items()))
        where = f"{where}.{key}"
    return f"{where}={value if isinstance(value, str) else json.dumps(value)}"


# ---- walking through models ------------------------------------------------------------------------------------------


def _place(path: _Path, model: type[BaseModel], ends_in_key: bool = False) -> _Path:
    """The path without the names of a union's forms, which no recipe spells (Source in data.train.Source.path).

    ends_in_key: its last step is a key of the recipe, whatever it looks like.
    """
    kept: list[int | str] = []
    for number, step in enumerate(path):
        key = ends_in_key and number == len(path) - 1
        form = (
            isinstance(step, str)
            and not key
            and (step.removeprefix("constrained-") in _PLAIN or "[" in step or step in _model_names(model))
        )
        if not form or _field_at(model, (*kept, step)) is not None:
            kept.append(step)
    return tuple(kept)


def _field_at(model: type[BaseModel], path: _Path) -> FieldInfo | None:
    """The field that a path ends in, or None where it ends in no field of a model."""
    for owner in _models_at(model, path[:-1]):
        for name, info in owner.model_fields.items():
            if path and path[-1] in (name, info.alias):
                return info
    return None


def _models_at(model: type[BaseModel], path: _Path) -> list[type[BaseModel]]:
    """The models that can stand at `path`, through nested models, unions and lists."""
    candidates: list[type[BaseModel]] = [model]
    for step in path:
        if isinstance(step, int):
            continue
        candidates = [
            inner
            for candidate in candidates
            for name, info in candidate.model_fields.items()
            if step in (name, info.alias)
            for inner in _models_in(info.annotation)
        ]
    return candidates


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return list(dict.fromkeys(found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)))


@cache
def _model_names(model: type[BaseModel]) -> frozenset[str]:
    """Names of all models inside `model`."""
    found: set[str] = set()
    waiting = [model]
    while waiting:
        for info in waiting.pop().model_fields.values():
            for inner in _models_in(info.annotation):
                if inner.__name__ not in found:
                    found.add(inner.__name__)
                    waiting.append(inner)
    return frozenset(found)
