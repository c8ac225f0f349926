"""Messages and prompts as data sets hold them, read into turns: by role and content, or by from and value.

A content is text, or a list of parts: text parts are joined, reasoning becomes `reasoning_content` and a tool_call one
of `tool_calls`, the names by which chat templates know them. Errors: ValueError that names the turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.example import Turn
from .turns import ROLES, conversation, named, text_of

__all__ = ["answered", "chat_turn", "dialogue", "first_key", "opening", "prompt_of", "sharegpt_turn", "turns_in"]

_TRAIN = ("train", "weight", "loss_weight")
_TAKEN = {"role", "content", *_TRAIN}
_SPEAKERS = {
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
_SAID = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


# ---- messages --------------------------------------------------------------------------------------------------------


def chat_turn(message: Any, number: int) -> Turn:
    """The turn of {role, content}; its number is for messages about it."""
    if not isinstance(message, Mapping):
        raise ValueError(f"wrong type: turn {number} is no object with role and content")
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(f"unknown role: turn {number} has {named(role)}, not one of {', '.join(ROLES)}")
    # Tables fill absent keys with null; a template must not meet them.
    extra = {key: value for key, value in message.items() if key not in _TAKEN and value is not None}
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        content, more = _parts(content, number)
        extra |= more
    elif content is None and extra.get("tool_calls"):
        content = ""
    elif content is None:
        raise ValueError(f"missing content: turn {number} has none")
    return Turn(role, text_of(content, f"content of turn {number}"), _train(message, number), extra)


def _parts(content: Any, number: int) -> tuple[str, dict[str, Any]]:
    """The text of a content's parts, and what of them stands beside it."""
    said: dict[str, list[str]] = {"text": [], "reasoning": [], "tool_call": []}
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        if kind not in said:
            raise ValueError(
                f"unknown content: turn {number} has a part of type {named(kind)}, only {', '.join(said)} can be read"
            )
        value = part.get("text", part.get("value"))
        value = json.dumps(value, ensure_ascii=False) if kind == "tool_call" and isinstance(value, Mapping) else value
        said[kind].append(text_of(value, f"a {kind} part of turn {number}"))
    more: dict[str, Any] = {}
    if said["reasoning"]:
        more["reasoning_content"] = "".join(said["reasoning"])
    if said["tool_call"]:
        more["tool_calls"] = [call for value in said["tool_call"] for call in _calls(value, number)]
    return "".join(said["text"]), more


def _train(message: Mapping[str, Any], number: int) -> bool | None:
    value = next((message[key] for key in _TRAIN if message.get(key) is not None), None)
    if value is None:
        return None
    if value not in (0, 1):
        raise ValueError(f"wrong type: turn {number} is to be trained {named(value)}, not true or false, 1 or 0")
    return bool(value)


def sharegpt_turn(item: Any, number: int) -> Turn:
    """The turn of {from, value}; its number is for messages about it."""
    if not isinstance(item, Mapping):
        raise ValueError(f"wrong type: turn {number} is no object with from and value")
    speaker = item.get("from")
    role = _SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise ValueError(f"unknown role: turn {number} is from {named(speaker)}, not one of {', '.join(_SPEAKERS)}")
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


def turns_in(value: Any, name: str) -> tuple[Turn, ...]:
    """The turns of a message or a list of them, of either kind. Errors: ValueError for what is neither, or empty."""
    items = (value,) if isinstance(value, Mapping) else value
    if not isinstance(items, (list, tuple)) or not items:
        raise ValueError(f"missing {name}" if items in (None, [], ()) else f"wrong type: {name} is {named(value)}")
    return tuple(
        (sharegpt_turn if isinstance(item, Mapping) and "from" in item else chat_turn)(item, number)
        for number, item in enumerate(items, 1)
    )


# ---- prompts ---------------------------------------------------------------------------------------------------------


def dialogue(text: str) -> tuple[Turn, ...]:
    """The turns of a text that parts them by "Human:" and "Assistant:"; none where it does not begin so.

    An answer that is left open at the end is no turn.
    """
    if not _SAID.match(text):
        return ()
    pieces = _SAID.split(text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    found = [Turn(roles[who], said.strip()) for who, said in zip(pieces[::2], pieces[1::2], strict=True)]
    return tuple(found[:-1] if found[-1] == Turn("assistant", "") else found)


def opening(record: Mapping[str, Any]) -> Iterator[Turn]:
    """What comes before the prompt: `system`, and `history` as pairs of prompt and answer."""
    system = record.get("system")
    text = "" if system is None else text_of(system, "system")
    if text.strip():
        yield Turn("system", text)
    history = record.get("history")
    if history is not None and not isinstance(history, (list, tuple)):
        raise ValueError("wrong type: history is no list of pairs")
    for number, pair in enumerate(history or (), 1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"wrong type: item {number} of history is no pair of prompt and answer")
        yield Turn("user", text_of(pair[0], f"prompt {number} of history"))
        yield Turn("assistant", text_of(pair[1], f"answer {number} of history"))


def prompt_of(record: Mapping[str, Any], key: str, beside: str = "input") -> tuple[Turn, ...]:
    """The turns before an answer: `key` holds messages, or text that the text in `beside` follows.

    `system` and `history` come before them, unless messages begin with a system turn. Errors: ValueError for no prompt.
    """
    value = record.get(key)
    if isinstance(value, (list, tuple, Mapping)):
        turns = turns_in(value, key)
        return turns if turns[0].role == "system" else (*opening(record), *turns)
    if not text_of(value, key).strip():
        raise ValueError(f"empty prompt: {key} says nothing")
    given = record.get(beside) if key != beside else None
    more = "" if given is None else text_of(given, beside)
    return (*opening(record), Turn("user", f"{value}\n\n{more}" if more.strip() else str(value)))


def first_key(record: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of the keys that the record has."""
    return next((key for key in keys if key in record), None)


def answered(
    record: Mapping[str, Any], prompts: Sequence[str], answers: Sequence[str]
) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The turns of a prompt and of its answer, each under the first of these keys. Errors: ValueError as prompt_of, and
    for an empty answer.
    """
    key, said = first_key(record, prompts) or prompts[0], first_key(record, answers) or answers[0]
    value, answer = record.get(key), record.get(said)
    prompt = (dialogue(value) if isinstance(value, str) else ()) or prompt_of(record, key)
    turns = (
        (Turn("assistant", text_of(answer, said)),)
        if answer is None or isinstance(answer, str)
        else turns_in(answer, said)
    )
    conversation([*prompt, *turns])
    return prompt, turns
