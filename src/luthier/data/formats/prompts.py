"""Prompts alone, to which the model itself gives the answers: prompt, as text or as messages.

For objectives that learn from rewards. `prompt` ends with what a user says; where the format is named, `messages`,
`instruction` (with `input`) and `question` are prompts too, and other columns are not read. A row that has a reference
answer beside its prompt is one of alpaca or chat; rewards are given that answer. Errors: ValueError for empty prompts,
and for messages that end with an answer. Source: the prompt-only rows of TRL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Part, Turn
from ..messages import dialogue, first_key, prompt_of
from ..turns import conversation, tools_text

__all__ = ["Prompts"]

_PROMPTS = ("prompt", "messages", "instruction", "question")


class Prompts(Format):
    """Reads a prompt into turns; there is no answer, and no target."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {"prompt": "Is it late?"}

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        # Beside other columns it has to be named: one of them may be the answer by another name.
        return isinstance(record.get("prompt"), (str, list, tuple)) and not set(record) - {"id", "prompt"}

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        key = first_key(record, _PROMPTS) or _PROMPTS[0]
        value = record.get(key)
        prompt = (dialogue(value) if isinstance(value, str) else ()) or prompt_of(record, key)
        if prompt[-1].role == "assistant":
            raise ValueError(f"no prompt: {key} ends with an answer, as rows of the format chat do")
        conversation([*prompt, Turn("assistant", "(its own)")])
        parts: dict[str, Part] = {"prompt": prompt}
        tools = tools_text(record.get("tools"))
        if tools is not None:
            parts["tools"] = tools
        return {"parts": parts}
