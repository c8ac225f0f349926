"""Tasks with a definition, examples and instances: the task files of Super-NaturalInstructions.

A task file is one object; each of its Instances is a row: the prompt is the Definition, as many of the Positive
Examples as `shown` says (not the row itself), and the input; of several outputs the first is learned, and all of them
count as right. The groups `task` and `category` say where a row belongs. Rows that are flat already have definition,
inputs and targets. Errors: ValueError for an empty definition, input or output.
Source: Wang et al. 2022 (arXiv:2204.07705); two examples are their usual setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from ...core.contracts import Format
from ...core.example import Turn
from ..turns import answers_of, conversation, named, text_of

__all__ = ["NaturalInstructions"]

_SHARED = ("Definition", "Positive Examples")


class NaturalInstructions(Format):
    """Reads definition, examples and instance into a conversation of one prompt and one answer."""

    example: ClassVar[Mapping[str, Any]] = {"shown": 0}
    sample: ClassVar[Mapping[str, Any]] = {
        "Definition": ["Say the opposite."],
        "Positive Examples": [{"input": "day", "output": "night", "explanation": "They exclude each other."}],
        "id": "task7-1",
        "task": "task7",
        "input": "big",
        "output": ["small", "little"],
    }
    shown: int = Field(2, ge=0, description="how many of the task's positive examples stand in the prompt")

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        return all(key in record for key in ("Definition", "input", "output")) or all(
            key in record for key in ("definition", "inputs", "targets")
        )

    def rows(self, document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
        instances = document.get("Instances")
        if "Definition" not in document or not isinstance(instances, list):
            return None
        shared = {key: document[key] for key in _SHARED if key in document}
        category = document.get("Categories")
        if isinstance(category, list) and category and isinstance(category[0], str):
            shared["category"] = category[0]
        return [{**shared, **_instance(item)} for item in instances]

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        definition = _definition(record.get("Definition", record.get("definition")))
        given = text_of(record.get("input", record.get("inputs")), "input")
        if not given.strip():
            raise ValueError("empty input: input says nothing")
        answer, target = answers_of(record.get("output", record.get("targets")), "output")
        examples = list(self._examples(record.get("Positive Examples"), given))
        asked = f"Input: {given}\nOutput:" if examples else given
        prompt = "\n\n".join([definition, *examples, asked])
        return {
            "parts": {"messages": conversation([Turn("user", prompt), Turn("assistant", answer)])},
            "target": target,
            "groups": {
                name: record[key]
                for name, key in (("task", "task"), ("task", "task_name"), ("category", "category"))
                if isinstance(record.get(key), str) and record[key]
            },
        }

    def _examples(self, value: Any, given: str) -> Iterator[str]:
        if value is not None and not isinstance(value, (list, tuple)):
            raise ValueError(f"wrong type: Positive Examples is {named(value)}, not a list")
        left = self.shown
        for number, item in enumerate(value or (), 1):
            place = f"of positive example {number}"
            if not isinstance(item, Mapping):
                raise ValueError(f"wrong type: positive example {number} is {named(item)}, not an object")
            asked = text_of(item.get("input"), f"input {place}")
            if left and asked != given:
                left -= 1
                yield f"Input: {asked}\nOutput: {answers_of(item.get('output'), f'output {place}')[0]}"


def _instance(value: Any) -> Mapping[str, Any]:
    """An instance as a row; its id begins with the task's name. What is no object becomes a row without an input."""
    if not isinstance(value, Mapping):
        return {}
    task, dash, _ = str(value.get("id", "")).partition("-")
    return {**value, "task": task} if dash and task else value


def _definition(value: Any) -> str:
    parts = value if isinstance(value, (list, tuple)) else [value]
    text = "\n\n".join(text_of(part, "definition") for part in parts)
    if not text.strip():
        raise ValueError("empty definition: it says nothing")
    return text
