"""Instructions: instruction, input and output, with system and history where there are any.

The prompt is the instruction, and after a blank line the input where there is one. `output` is the answer, or a list of
reference answers: the first is learned, all of them count as right when answers are checked. `history` is a list of
[prompt, answer] pairs that came before. An instruction may be called question or prompt, an input context, and an
output response, completion, answer or answers. Errors: ValueError for an empty instruction or answer.
Source: Taori et al., Stanford Alpaca, 2023; `system` and `history` as LLaMA-Factory has them; the other names as in
Dolly, GSM8K and TRL's prompts with completions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Turn
from ..messages import prompt_of
from ..turns import answers_of, conversation

__all__ = ["Alpaca"]

_ASKED = ("instruction", "question", "prompt")
_GIVEN = ("input", "context")
_ANSWERED = ("output", "response", "completion", "answer", "answers")


class Alpaca(Format):
    """Reads instruction, input and output into a conversation of one prompt and one answer."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {
        "instruction": "Translate into French.",
        "input": "good morning",
        "output": "bonjour",
    }

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        asked, answered = _first(record, _ASKED), _first(record, _ANSWERED)
        return (
            asked in record
            and answered in record
            and not (_holds_objects(record[asked]) or _holds_objects(record[answered]))
        )

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        prompt = prompt_of(record, _first(record, _ASKED), _first(record, _GIVEN))
        answered = _first(record, _ANSWERED)
        answer, target = answers_of(record.get(answered), answered)
        return {"parts": {"messages": conversation([*prompt, Turn("assistant", answer)])}, "target": target}


def _first(record: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next((key for key in keys if key in record), keys[0])


def _holds_objects(value: Any) -> bool:
    return isinstance(value[0] if isinstance(value, (list, tuple)) and value else value, Mapping)
