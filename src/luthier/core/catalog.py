"""The catalog's rooms: a file's name is its registration.

A room is a package; each module in it holds one component, which a recipe names by the module's name. Names come from
the folder's listing and summaries from the files' docstrings, so that listing a room imports nothing.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["ROOMS", "names", "room_folder", "summary"]

ROOMS: Mapping[str, str] = {
    "formats": "luthier.data.formats",
    "steps": "luthier.data.steps",
    "objectives": "luthier.objectives",
    "penalties": "luthier.penalties",
    "adaptations": "luthier.adaptations",
    "optimizers": "luthier.optimizers",
    "schedules": "luthier.schedules",
    "checks": "luthier.checks",
    "rewards": "luthier.rewards",
}
"""Every room of the catalog and the package whose modules are its components."""


@cache
def room_folder(room: str) -> Path:
    """The folder of a room's files."""
    spec = importlib.util.find_spec(ROOMS[room])
    assert spec is not None, f"room {room} has no package"
    assert spec.origin is not None, f"room {room} has no package"
    return Path(spec.origin).parent


@cache
def names(room: str) -> tuple[str, ...]:
    """The names of a room's components, sorted; nothing is imported."""
    return tuple(sorted(file.stem for file in room_folder(room).glob("*.py") if not file.stem.startswith("_")))


@cache
def summary(room: str, name: str) -> str:
    """The first line of the component's module docstring; nothing is imported."""
    source = (room_folder(room) / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")
