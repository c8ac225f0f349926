"""The texts of a row: all of what a model could learn from, and what groups it, with one function changed.

Parts, turns, what turns carry beside their content (tool calls), targets and groups. JSON inside a text field (the
tools of a conversation, the arguments of a call) is changed value by value, so that it stays JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ...core.example import Example, Part, Target, Turn

__all__ = ["changed", "json_changed", "texts_of"]

_KEPT = ("answer_starts",)
Change = Callable[[str], str]


def texts_of(example: Example) -> list[str]:
    """Every text that `changed` hands to its function, in the same order."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    changed(example, note)
    return found


def changed(example: Example, change: Change) -> Example:
    """The example with every text changed; its id, origin and the tags of its tokens stay."""
    parts: dict[str, Part] = {}
    for name, part in example.parts.items():
        if isinstance(part, str):
            parts[name] = _json_text(part, change) if name == "tools" else change(part)
        else:
            parts[name] = tuple(_turn(turn, change) for turn in part)
    groups = {name: value if name in _KEPT else change(value) for name, value in example.groups.items()}
    return replace(example, parts=parts, target=_target(example, change), groups=groups)


def _turn(turn: Turn, change: Change) -> Turn:
    extra = json_changed(turn.extra, change) if turn.extra else turn.extra
    return replace(turn, content=change(turn.content), extra=extra)


def _target(example: Example, change: Change) -> Target:
    target = example.target
    if isinstance(target, str):
        return change(target)
    if isinstance(target, tuple) and "tokens" not in example.parts:
        return tuple(change(text) for text in target)
    return target


def json_changed(value: Any, change: Change) -> Any:
    """Plain values with every text among them changed, but for the names of fields; JSON in a text stays JSON."""
    if isinstance(value, str):
        return _json_text(value, change)
    if isinstance(value, Mapping):
        return {name: json_changed(item, change) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_changed(item, change) for item in value]
    return value


def _json_text(text: str, change: Change) -> str:
    if text.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(text)
        except ValueError:
            return change(text)
        made = json_changed(value, change)
        return text if made == value else json.dumps(made, ensure_ascii=False)
    return change(text)
