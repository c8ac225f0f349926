"""Rows for the annotation tools Argilla and Label Studio, and decisions from what people answered there.

Each row asks for a decision (keep or drop), where rows have classes for a label, and for a reason. A label other than
the row's own is a relabeling, unless the row is dropped. Sources: Label Studio's task format (labelstud.io/guide/
task_format), its labeling configuration, and the records that Argilla 2 writes with `records.to_json`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from ..core.errors import DataError
from ..core.example import Example
from .review import Decision, digest_of

__all__ = ["Tool", "decisions_of", "export", "labeling_config"]

Tool = Literal["argilla", "label-studio"]
Answers = Mapping[str, str]


def export(examples: Sequence[Example], tool: Tool) -> list[dict[str, Any]]:
    """The rows as the tool imports them, one object each."""
    return [(_argilla if tool == "argilla" else _task)(example) for example in examples]


def labeling_config(examples: Sequence[Example]) -> str:
    """Label Studio's labeling configuration for these rows (XML)."""
    labels = sorted({example.target for example in examples if isinstance(example.target, str)})
    asked = [_choices("decision", ("keep", "drop"), required=True)]
    asked += [_choices("label", labels, required=False)] if labels else []
    return "\n".join(
        [
            "<View>",
            '  <Text name="text" value="$text"/>',
            '  <Text name="was" value="$label"/>' if labels else "",
            *asked,
            '  <TextArea name="reason" toName="text" placeholder="why" rows="1"/>',
            "</View>\n",
        ]
    ).replace("\n\n", "\n")


def _choices(name: str, values: Sequence[str], *, required: bool) -> str:
    inside = "\n".join(f"    <Choice value={quoteattr(value)}/>" for value in values)
    needed = ' required="true"' if required else ""
    return f'  <Choices name="{name}" toName="text" choice="single"{needed}>\n{inside}\n  </Choices>'


def _shown(example: Example) -> str:
    """The row for a reader: roles before turns, names before parts where there are several."""
    pieces = []
    for name, part in example.parts.items():
        if isinstance(part, str):
            pieces.append(part if len(example.parts) == 1 else f"{name}: {part}")
        else:
            pieces += [f"{turn.role}: {turn.content}" for turn in part]
    return "\n\n".join(pieces)


def _label(example: Example) -> str:
    target = example.target
    return ", ".join(target) if isinstance(target, tuple) else "" if target is None else str(target)


def _task(example: Example) -> dict[str, Any]:
    held = {"row": example.id, "digest": digest_of(example), "label": _label(example)}
    return {"data": {"text": _shown(example), **held}}


def _argilla(example: Example) -> dict[str, Any]:
    suggestions = {"label": {"value": example.target}} if isinstance(example.target, str) else {}
    return {
        "id": example.id,
        "fields": {"text": _shown(example)},
        "metadata": {"digest": digest_of(example), "label": _label(example)},
        "suggestions": suggestions,
        "responses": {},
        "vectors": {},
    }


def decisions_of(content: str, where: str) -> list[Decision]:
    """The decisions in a file that one of the tools wrote; which tool it was shows in its keys.

    Errors: DataError for what neither of them writes.
    """
    try:
        rows = json.loads(content)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("no list of objects")
        return [decision for row in rows for decision in (_of_argilla(row) if "fields" in row else _of_task(row))]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"these are no answers of Argilla or Label Studio: {error!r}",
            where=where,
            expected="Label Studio's JSON export of the tasks that `luthier data export` wrote, or Argilla's to_json",
        ) from error


def _of_task(task: Mapping[str, Any]) -> Iterator[Decision]:
    data = task["data"]
    for annotation in task.get("annotations", ()):
        if annotation.get("was_cancelled"):
            continue
        by = annotation.get("completed_by")
        reviewer = str(by.get("email") or by["id"]) if isinstance(by, Mapping) else str(by)
        answers = {}
        for result in annotation["result"]:
            value = result["value"]
            answers[result["from_name"]] = (value.get("choices") or value.get("text") or [""])[0]
        yield from _decided(data["row"], data["digest"], data.get("label", ""), reviewer, answers)


def _of_argilla(record: Mapping[str, Any]) -> Iterator[Decision]:
    by_user: dict[str, dict[str, str]] = defaultdict(dict)
    for question, responses in record["responses"].items():
        for response in responses:
            by_user[str(response["user_id"])][question] = response["value"]
    metadata = record["metadata"]
    for reviewer, answers in by_user.items():
        yield from _decided(record["id"], metadata["digest"], metadata.get("label", ""), reviewer, answers)


def _decided(row: str, digest: str, label: str, reviewer: str, answers: Answers) -> Iterator[Decision]:
    decision, chosen, reason = (answers.get(name) for name in ("decision", "label", "reason"))
    if decision == "drop":
        yield Decision(row, reviewer, "drop", digest=digest, reason=reason or "")
    elif chosen and chosen != label:
        yield Decision(row, reviewer, "relabel", digest=digest, target=chosen, reason=reason or "")
    elif decision == "keep" or chosen:
        yield Decision(row, reviewer, "keep", digest=digest, reason=reason or "")
