"""Preferences: a prompt with a chosen and a rejected answer, as text or as messages.

The prompt is `prompt`, `instruction` (with `input`), `question`, `messages` or `conversations`; or `chosen` and
`rejected` are whole conversations, and what they begin with alike is the prompt. Texts that part turns by "Human:" and
"Assistant:" are read as conversations. `chosen_messages` and `rejected_messages` are whole conversations too; of
`output_1` and `output_2`, `label` or `preference` (1 or 2) says which is chosen. Where `margin`, or `score_chosen` and
`score_rejected`, tell by how much, that is the target. Errors: ValueError for answers that are empty, the same, or to
different prompts. Source: Christiano et al. 2017 (arXiv:1706.03741); the columns of Anthropic's HH, UltraFeedback
(binarized), TRL, LLaMA-Factory and LLMBar.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Part, Turn
from ..messages import dialogue, opening, prompt_of, turns_in
from ..turns import conversation, named, text_of, tools_text

__all__ = ["Preferences"]

_PROMPTS = ("prompt", "instruction", "question", "conversations", "messages", "input")
_PAIRS = (("chosen", "rejected"), ("chosen_messages", "rejected_messages"), ("output_1", "output_2"))
_WHICH = ("label", "preference")
Turns = tuple[Turn, ...]


class Preferences(Format):
    """Reads a prompt and two answers to it into turns."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {
        "prompt": "Is it late?",
        "chosen": "Yes, it is past ten.",
        "rejected": "Late is a word of four letters.",
    }

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        pair = _pair(record)
        if pair is None:
            return False
        chosen = record[pair[0]]
        whole = bool(dialogue(chosen)) if isinstance(chosen, str) else isinstance(chosen, (list, tuple))
        return whole or any(key in record for key in _PROMPTS)

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        names = _pair(record)
        if names is None:
            raise ValueError("missing chosen or rejected, or which of output_1 and output_2 is chosen")
        chosen, rejected = (_answer(record.get(name), name) for name in names)
        if chosen[0].role == rejected[0].role == "assistant":
            prompt = _prompt(record)
        else:
            prompt = (*_system(record, chosen), *_alike(chosen, rejected))
            shared = len(_alike(chosen, rejected))
            chosen, rejected = chosen[shared:], rejected[shared:]
        for answer in (chosen, rejected):
            conversation([*prompt, *answer])
        if chosen == rejected:
            raise ValueError("no preference: chosen and rejected say the same")
        parts: dict[str, Part] = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        tools = tools_text(record.get("tools"))
        if tools is not None:
            parts["tools"] = tools
        return {"parts": parts, "target": _margin(record)}


def _pair(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of the chosen and of the rejected answer."""
    for chosen, rejected in _PAIRS:
        if record.get(chosen) and record.get(rejected):
            if chosen != "output_1":
                return chosen, rejected
            which = next((str(record[key]) for key in _WHICH if key in record), "")
            return {"1": (chosen, rejected), "2": (rejected, chosen)}.get(which)
    return None


def _answer(value: Any, name: str) -> Turns:
    """The turns of an answer: one, unless it is a whole conversation or has calls in it."""
    if not isinstance(value, str):
        return turns_in(value, name)
    return dialogue(value) or (Turn("assistant", value),)


def _prompt(record: Mapping[str, Any]) -> Turns:
    key = next((key for key in _PROMPTS if record.get(key)), "prompt")
    value = record.get(key)
    return (dialogue(value) if isinstance(value, str) else ()) or prompt_of(record, key)


def _system(record: Mapping[str, Any], turns: Turns) -> Turns:
    """What stands before whole conversations that have no system turn of their own."""
    return () if turns[0].role == "system" else tuple(opening(record))


def _alike(chosen: Turns, rejected: Turns) -> Turns:
    """The turns that both begin with, up to where an assistant speaks in each."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    while shared and not chosen[shared].role == rejected[shared].role == "assistant":
        shared -= 1
    if not shared:
        raise ValueError("different prompts: chosen and rejected do not begin alike")
    return chosen[:shared]


def _margin(record: Mapping[str, Any]) -> float | None:
    if record.get("margin") is not None:
        return _number(record["margin"], "margin")
    if record.get("score_chosen") is None or record.get("score_rejected") is None:
        return None
    return _number(record["score_chosen"], "score_chosen") - _number(record["score_rejected"], "score_rejected")


def _number(value: Any, name: str) -> float:
    try:
        number = float(value if isinstance(value, (int, float)) else text_of(value, name))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"wrong type: {name} is {named(value)}, not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"wrong type: {name} is {named(value)}, not a finite number")
    return number
