"""Conversations: messages of {role, content}, with tools where there are any.

`messages` is a list of {role, content}; roles are system, developer, user, assistant and tool. A content is text, or a
list of text parts that are joined. Further keys of a message (tool_calls, name, tool_call_id) reach the chat template;
`train` (true or false) or `weight` (1 or 0, as OpenAI's fine-tuning files have it) says whether a turn is learned. A
top-level `tools` list is kept for the template; `references` lists answers that count as right when answers are
checked. Errors: ValueError for roles out of order, empty or missing answers.
Source: the messages format of OpenAI's chat completions, which Hugging Face chat templates read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Part, Turn
from ..turns import ROLES, conversation, named, text_of, tools_text

__all__ = ["Chat"]


class Chat(Format):
    """Reads `messages` into turns; every assistant turn is learned unless it says otherwise."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {
        "messages": [{"role": "user", "content": "How long?"}, {"role": "assistant", "content": "Two hours."}]
    }

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        messages = record.get("messages")
        return bool(
            isinstance(messages, (list, tuple))
            and messages
            and isinstance(messages[0], Mapping)
            and "role" in messages[0]
        )

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        messages = record.get("messages")
        if messages is None:
            raise ValueError("missing messages")
        if not isinstance(messages, (list, tuple)):
            raise ValueError("wrong type: messages is no list")
        turns = conversation(_turn(message, number) for number, message in enumerate(messages, 1))
        if not any(turn.trained for turn in turns):
            raise ValueError("nothing to learn: no turn is trained")
        parts: dict[str, Part] = {"messages": turns}
        tools = tools_text(record.get("tools"))
        if tools is not None:
            parts["tools"] = tools
        return {"parts": parts, "target": _references(record.get("references"))}


def _references(value: Any) -> tuple[str, ...] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"wrong type: references is {named(value)}, not a list of answers")
    return tuple(text_of(item, "an answer in references") for item in value)


def _turn(message: Any, number: int) -> Turn:
    if not isinstance(message, Mapping):
        raise ValueError(f"wrong type: turn {number} is no object with role and content")
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(f"unknown role: turn {number} has {named(role)}, not one of {', '.join(ROLES)}")
    taken = {"role", "content", "train", "weight"}
    # Tables fill absent keys with null; a template must not meet them.
    extra = {key: value for key, value in message.items() if key not in taken and value is not None}
    content = message.get("content")
    if content is None and extra.get("tool_calls"):
        content = ""
    return Turn(role, _content(content, number), _train(message, number), extra)


def _content(value: Any, number: int) -> str:
    if not isinstance(value, (list, tuple)):
        if value is None:
            raise ValueError(f"missing content: turn {number} has none")
        return text_of(value, f"content of turn {number}")
    pieces: list[str] = []
    for part in value:
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text":
            raise ValueError(f"unknown content: turn {number} has a part of type {named(kind)}, only text can be read")
        pieces.append(text_of(part.get("text", part.get("value")), f"a text part of turn {number}"))
    return "".join(pieces)


def _train(message: Mapping[str, Any], number: int) -> bool | None:
    value = message.get("train", message.get("weight"))
    if value is None:
        return None
    if value not in (0, 1):
        raise ValueError(f"wrong type: turn {number} is to be trained {named(value)}, not true or false, 1 or 0")
    return bool(value)
