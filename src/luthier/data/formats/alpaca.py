"""Instructions: instruction, input and output, with system and history where there are any.

The prompt is the instruction, and after a blank line the input where there is one. `output` is the answer, or a list of
reference answers: the first is learned, all of them count as right when answers are checked. `history` is a list of
[prompt, answer] pairs that came before. Errors: ValueError for an empty instruction or answer.
Source: Taori et al., Stanford Alpaca, 2023; `system` and `history` as LLaMA-Factory has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Target, Turn
from ..turns import conversation, text_of

__all__ = ["Alpaca"]


class Alpaca(Format):
    """Reads instruction, input and output into a conversation of one prompt and one answer."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {
        "instruction": "Translate into French.",
        "input": "good morning",
        "output": "bonjour",
    }

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        return "instruction" in record and "output" in record

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        instruction = text_of(record.get("instruction"), "instruction")
        given = record.get("input")
        given = "" if given is None else text_of(given, "input")
        if not instruction.strip():
            raise ValueError("empty prompt: instruction says nothing")
        prompt = f"{instruction}\n\n{given}" if given.strip() else instruction
        answer, target = _answers(record.get("output"))
        turns = [*_system(record.get("system")), *_history(record.get("history"))]
        turns += [Turn("user", prompt), Turn("assistant", answer)]
        return {"parts": {"messages": conversation(turns)}, "target": target}


def _answers(output: Any) -> tuple[str, Target]:
    """The learned answer, and all reference answers where a list of them is given."""
    if not isinstance(output, (list, tuple)):
        return text_of(output, "output"), None
    answers = dict.fromkeys(text for text in (text_of(item, "an answer in output") for item in output) if text.strip())
    if not answers:
        raise ValueError("missing output")
    return next(iter(answers)), tuple(answers)


def _system(value: Any) -> Iterator[Turn]:
    text = "" if value is None else text_of(value, "system")
    if text.strip():
        yield Turn("system", text)


def _history(value: Any) -> Iterator[Turn]:
    if value is not None and not isinstance(value, (list, tuple)):
        raise ValueError("wrong type: history is no list of pairs")
    for number, pair in enumerate(value or (), 1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"wrong type: item {number} of history is no pair of prompt and answer")
        yield Turn("user", text_of(pair[0], f"prompt {number} of history"))
        yield Turn("assistant", text_of(pair[1], f"answer {number} of history"))
