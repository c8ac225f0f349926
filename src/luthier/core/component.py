"""Components: a frozen set of parameters that does its work itself, found by the name of its file.

Every module of a room (see catalog.py) holds one public `Component`, which a recipe names by the module's name.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ValidationError
from pydantic_core import core_schema

from .catalog import ROOMS, names, room_folder, summary
from .errors import BrokenComponent, Problem, RecipeError, UnknownComponent, nearest
from .problems import problems_of, refused
from .strict import Strict

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

    from .recipe import Phase, Recipe

__all__ = ["ROOMS", "Component", "Slot", "build", "describe", "find", "names", "summary"]


class Component(Strict):
    """A frozen set of parameters that does its work itself. Its name in a recipe is its file's name.

    Errors: an unknown or wrong parameter is a `RecipeError` that names the place and the nearest parameter.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    """Parameters that validate; the conformance suite and the documentation use them."""

    @classmethod
    def component_name(cls) -> str:
        """The name in a recipe: that of the file."""
        return cls.__module__.rpartition(".")[2]

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        """What is wrong with this component in this recipe (rules about combinations live here)."""
        return ()


@cache
def find(room: str, name: str) -> type[Component]:
    """The component class called `name` in `room`.

    Errors: UnknownComponent with the nearest name; BrokenComponent, caused by the import error, when its file fails.
    """
    if name not in names(room):
        near = nearest(name, names(room))
        raise UnknownComponent(
            f"there is no {room[:-1]} called '{name}'",
            expected="one of " + ", ".join(names(room)),
            remedy=f"did you mean '{near}'?" if near else f"luthier list {room} shows all",
        )
    try:
        module = importlib.import_module(f"{ROOMS[room]}.{name}")
    except Exception as error:
        raise BrokenComponent(
            f"the {room[:-1]} '{name}' cannot be imported: {type(error).__name__}: {error}",
            where=str(room_folder(room) / f"{name}.py"),
            remedy="mend the file; the other components are not affected",
        ) from error
    found = [
        value
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Component)
        and value.__module__ == module.__name__
        and not key.startswith("_")
    ]
    if len(found) != 1:
        raise BrokenComponent(
            f"the {room[:-1]} '{name}' holds {len(found)} public components, not one",
            where=str(room_folder(room) / f"{name}.py"),
        )
    return found[0]


def build(room: str, value: Any) -> Component:
    """A component from `name`, `{name: {parameters}}`, or one already built.

    Errors: RecipeError with every wrong parameter.
    """
    if isinstance(value, Component):
        return value
    if isinstance(value, str):
        return _validate(room, value, {})
    if isinstance(value, Mapping) and len(value) == 1:
        name, parameters = next(iter(value.items()))
        if isinstance(parameters, Mapping) or parameters is None:
            return _validate(room, str(name), parameters or {})
    raise RecipeError(
        f"{json.dumps(value, default=str)} names no {room[:-1]}",
        expected=f"a name, or {{name: {{parameter: value}}}}; names: {', '.join(names(room))}",
    )


def _validate(room: str, name: str, parameters: Mapping[str, Any]) -> Component:
    cls = find(room, name)
    try:
        return cls.model_validate(dict(parameters))
    except ValidationError as error:
        raise RecipeError(problems_of(error, cls, prefix=name)) from error


def describe(component: Component) -> str | dict[str, Any]:
    """The shortest recipe form of a component: its name, or its name with what differs from the defaults."""
    parameters = component.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    name = component.component_name()
    return {name: parameters} if parameters else name


class _SlotSchema:
    """Pydantic's view of a slot: built by `build`, written by `describe`, schema from the room's files."""

    def __init__(self, room: str) -> None:
        self.room = room

    def _build(self, value: Any) -> Component:
        try:
            return build(self.room, value)
        except (RecipeError, BrokenComponent) as error:
            raise refused(*error.problems) from error

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._build, serialization=core_schema.plain_serializer_function_ser_schema(describe)
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        forms: list[dict[str, Any]] = [{"type": "string", "enum": list(names(self.room))}]
        for name in names(self.room):
            parameters = find(self.room, name).model_json_schema(by_alias=True)
            parameters["description"] = summary(self.room, name)
            forms.append(
                {
                    "type": "object",
                    "properties": {name: parameters},
                    "required": [name],
                    "additionalProperties": False,
                }
            )
        return {"anyOf": forms}


def Slot(room: str) -> Any:
    """The type of a field that holds a component of `room`: `objective: Slot("objectives")`."""
    return Annotated[Any, _SlotSchema(room)]
