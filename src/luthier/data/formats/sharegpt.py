"""Conversations: turns of {from, value}, from human, gpt, system, function_call or observation.

`conversations` is a list of {from, value}. human and user speak; gpt, chatgpt and assistant answer; function_call is an
answer whose value is the JSON of a call, {"name", "arguments"}, or a list of them; observation, function and tool are
what a tool gave back. Top-level `system` and `tools` are kept. Errors: ValueError for turns out of order, empty or
missing answers, calls that are no JSON. Source: the ShareGPT exports, and LLaMA-Factory's extension for tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Part, Turn
from ..messages import sharegpt_turn
from ..turns import conversation, text_of, tools_text

__all__ = ["ShareGPT"]


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
        turns = [sharegpt_turn(item, number) for number, item in enumerate(given, 1)]
        system = record.get("system")
        if system is not None and text_of(system, "system").strip() and not (turns and turns[0].role == "system"):
            turns.insert(0, Turn("system", system))
        parts: dict[str, Part] = {"messages": conversation(turns)}
        tools = tools_text(record.get("tools"))
        if tools is not None:
            parts["tools"] = tools
        return {"parts": parts}
