"""Conversations: messages of {role, content}, with tools where there are any.

`messages` is a list of {role, content}; roles are system, developer, user, assistant and tool. A content is text, or a
list of parts: text parts are joined, reasoning and tool_call parts become the message's reasoning_content and
tool_calls. Further keys of a message (tool_calls, name, tool_call_id) reach the chat template; `train` (true or false),
`weight` or `loss_weight` (1 or 0, as OpenAI's fine-tuning files and LLaMA-Factory have it) says whether a turn is
learned. A top-level `tools` list is kept for the template; `references` lists answers that count as right when answers
are checked. Errors: ValueError for roles out of order, empty or missing answers.
Source: the messages format of OpenAI's chat completions, which Hugging Face chat templates read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Part
from ..messages import chat_turn
from ..turns import conversation, named, text_of, tools_text

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
        turns = conversation(chat_turn(message, number) for number, message in enumerate(messages, 1))
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
