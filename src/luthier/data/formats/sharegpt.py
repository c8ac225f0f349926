"""Conversations: turns of {from, value}, from human, gpt, system, function_call or observation.

`conversations` is a list of {from, value}. human and user speak; gpt, chatgpt and assistant answer; function_call is an
answer whose value is the JSON of a call, {"name", "arguments"}, or a list of them; observation, function and tool are
what a tool gave back. Top-level `system` and `tools` are kept. Errors: ValueError for turns out of order, empty or
missing answers, calls that are no JSON. Source: the ShareGPT exports, and LLaMA-Factory's extension for tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Part, Turn
from ..turns import conversation, named, text_of, tools_text

__all__ = ["ShareGPT"]

_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function": "tool",
    "tool": "tool",
}


class ShareGPT(Format):
    """Reads `conversations` into turns; every answer and call is learned."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {
        "conversations": [{"from": "human", "value": "How long?"}, {"from": "gpt", "value": "Two hours."}]
    }

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        turns = record.get("conversations")
        return bool(isinstance(turns, (list, tuple)) and turns and isinstance(turns[0], Mapping) and "from" in turns[0])

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        given = record.get("conversations")
        if given is None:
            raise ValueError("missing conversations")
        if not isinstance(given, (list, tuple)):
            raise ValueError("wrong type: conversations is no list")
        turns = [_turn(item, number) for number, item in enumerate(given, 1)]
        system = record.get("system")
        if system is not None and text_of(system, "system").strip() and not (turns and turns[0].role == "system"):
            turns.insert(0, Turn("system", system))
        parts: dict[str, Part] = {"messages": conversation(turns)}
        tools = tools_text(record.get("tools"))
        if tools is not None:
            parts["tools"] = tools
        return {"parts": parts}


def _turn(item: Any, number: int) -> Turn:
    if not isinstance(item, Mapping):
        raise ValueError(f"wrong type: turn {number} is no object with from and value")
    speaker = item.get("from")
    role = _ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise ValueError(f"unknown role: turn {number} is from {named(speaker)}, not one of {', '.join(_ROLES)}")
    value = text_of(item.get("value"), f"value of turn {number}")
    if speaker == "function_call":
        return Turn(role, "", None, {"tool_calls": _calls(value, number)})
    return Turn(role, value)


def _calls(value: str, number: int) -> list[dict[str, Any]]:
    """The calls as chat templates expect them."""
    try:
        calls = json.loads(value)
    except ValueError as error:
        raise ValueError(f"damaged call: turn {number} is not valid JSON ({error})") from error
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in calls):
        raise ValueError(f"damaged call: turn {number} names no function")
    return [
        {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}}
        for call in calls
    ]
