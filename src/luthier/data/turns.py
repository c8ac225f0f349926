"""What the conversation formats share: roles in a believable order, answers that hold something, tools as JSON text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.example import Target, Turn

__all__ = [
    "ROLES",
    "SYSTEM",
    "answers_of",
    "conversation",
    "has_content",
    "named",
    "oldest_exchange",
    "text_of",
    "tools_text",
]

ROLES = ("system", "developer", "user", "assistant", "tool")
SYSTEM = ("system", "developer")
"""Roles that stand before a conversation and stay when it is shortened."""


def has_content(turn: Turn) -> bool:
    """Whether the turn says or calls anything."""
    return bool(turn.content.strip() or turn.extra.get("tool_calls"))


def conversation(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The turns, checked.

    System and developer turns come first; then the user speaks, users and assistants take turns, tools answer an
    assistant, and the last word is an assistant's. Errors: ValueError that names the turn, counted from 1.
    """
    checked = tuple(turns)
    if not checked:
        raise ValueError("the conversation is empty")
    before = "start"
    for number, turn in enumerate(checked, 1):
        place = f"turn {number} ({turn.role})"
        if turn.role in ("user", "assistant") and not has_content(turn):
            raise ValueError(f"empty {'answer' if turn.role == 'assistant' else 'prompt'}: {place} says nothing")
        if not _may_follow(turn.role, before):
            raise ValueError(f"turns out of order: {place} comes after {before}")
        before = turn.role
    if before != "assistant":
        raise ValueError(f"missing answer: the last turn is of {before}, not of assistant")
    return checked


def _may_follow(role: str, before: str) -> bool:
    opening = ("start", "system", "developer")
    if role in ("system", "developer"):
        return before in opening
    if role == "user":
        return before in (*opening, "assistant")
    if role == "assistant":
        return before in ("user", "tool")
    return before in ("assistant", "tool")


def text_of(value: Any, name: str) -> str:
    """`value` if it is text. Errors: ValueError that says what `name` is instead."""
    if isinstance(value, str):
        return value
    if value is None:
        raise ValueError(f"missing {name}")
    raise ValueError(f"wrong type: {name} is {_kind(value)}, not text")


def answers_of(value: Any, name: str) -> tuple[str, Target]:
    """The learned answer, and all reference answers where a list of them is given. Errors: ValueError for none."""
    if not isinstance(value, (list, tuple)):
        return text_of(value, name), None
    answers = dict.fromkeys(text for text in (text_of(item, f"an answer in {name}") for item in value) if text.strip())
    if not answers:
        raise ValueError(f"missing {name}")
    return next(iter(answers)), tuple(answers)


def tools_text(value: Any) -> str | None:
    """Tool definitions as JSON text, from a list or from text that holds one; None where there are none.

    Errors: ValueError for what is no list of objects.
    """
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"damaged tools: not valid JSON ({error})") from error
        if value == []:
            return None
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(t, Mapping) for t in value):
        raise ValueError(f"wrong type: tools is {_kind(value)}, not a list of objects")
    return json.dumps(value, ensure_ascii=False)


def named(value: Any) -> str:
    """A name or number for a message, such as a role; of longer text, which may say anything, only its length."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return repr(value) if re.fullmatch(r"[\w.:/-]{0,24}", value) else f"text of {len(value)} characters"
    return _kind(value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "text" if isinstance(value, str) else type(value).__name__


def oldest_exchange(turns: Sequence[Turn]) -> tuple[int, int] | None:
    """Begin and end of the oldest exchange after the system turns, unless it is the only one left."""
    begin = next((index for index, turn in enumerate(turns) if turn.role not in SYSTEM), len(turns))
    end = next((index for index in range(begin + 1, len(turns)) if turns[index].role == "user"), None)
    return None if end is None else (begin, end)
