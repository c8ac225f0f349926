"""Feedback on single answers: a prompt, a completion, and whether it is good or bad.

The prompt is `prompt`, `instruction` (with `input`) or `question`, the answer `completion`, `response` or `output`; or
`messages` or `conversations` end with the answer. `label` or `kto_tag` says what it is worth: true or false, 1 or 0,
good or bad, desirable or undesirable. Errors: ValueError for empty prompts and answers, and for another label.
Source: Ethayarajh et al. 2024 (arXiv:2402.01306); the columns of TRL and LLaMA-Factory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Part, Turn
from ..messages import answered, first_key, prompt_of
from ..turns import conversation, named, tools_text

__all__ = ["Feedback"]

_PROMPTS = ("prompt", "instruction", "question")
_ANSWERS = ("completion", "response", "output")
_WHOLE = ("messages", "conversations")
_LABELS = ("label", "kto_tag")
_WORTH = {"true": "good", "1": "good", "good": "good", "desirable": "good"}
_WORTH |= {"false": "bad", "0": "bad", "bad": "bad", "undesirable": "bad"}


class Feedback(Format):
    """Reads a prompt and an answer into turns; the target is "good" or "bad"."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {"prompt": "Is it late?", "completion": "Yes, past ten.", "label": True}

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        label = first_key(record, _LABELS)
        pair = first_key(record, _PROMPTS) and first_key(record, _ANSWERS)
        return bool(label and _worth(record[label]) and (pair or first_key(record, _WHOLE)))

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        label = first_key(record, _LABELS)
        if label is None or record[label] is None:
            raise ValueError("missing label")
        target = _worth(record[label])
        if target is None:
            raise ValueError(f"unknown label: {label} is {named(record[label])}, not true or false, good or bad")
        whole = first_key(record, _WHOLE)
        prompt, answer = _apart(prompt_of(record, whole)) if whole else answered(record, _PROMPTS, _ANSWERS)
        conversation([*prompt, *answer])
        parts: dict[str, Part] = {"prompt": prompt, "completion": answer}
        tools = tools_text(record.get("tools"))
        if tools is not None:
            parts["tools"] = tools
        return {"parts": parts, "target": target}


def _worth(value: Any) -> str | None:
    return _WORTH.get(str(value).strip().lower()) if isinstance(value, (bool, int, str)) else None


def _apart(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """What was asked, and what came after the last time that the user spoke."""
    last = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=-1)
    if last < 0 or last == len(turns) - 1:
        raise ValueError("missing prompt or answer: the messages do not end with an answer to a user")
    return turns[: last + 1], turns[last + 1 :]
