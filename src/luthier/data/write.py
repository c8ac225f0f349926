"""Examples as records that the formats read back: JSONL for people and other programs.

Conversations become `messages` (with `tools`, and `references` where several answers count as right), texts with a
class `text` and `label`, texts and answers with a number `score` and `rating`, ranked answers `responses` and `scores`,
tagged tokens and answers in a context lists; other parts stand under their own names. Groups are columns. Where a row
comes from, its weight and its repeat stand in no record: Parquet, as a run keeps it, holds them (store.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.example import Example, Turn
from ..core.files import file_aside
from .parts import tokens_of

__all__ = ["record_of", "write_records"]

_STARTS = "answer_starts"


def record_of(example: Example) -> dict[str, Any]:
    """A record from which the format that fits it makes equal parts and an equal target.

    Errors: DataError for tagged tokens of which a step has changed the number.
    """
    record: dict[str, Any] = {"id": example.id}
    ranked = _ranked(example)
    for name, part in example.parts.items():
        if name in ranked:
            continue
        if name == "tools" and isinstance(part, str):
            record[name] = json.loads(part)
        else:
            record[name] = part if isinstance(part, str) else _messages(part)
    record |= _target(example)
    groups = {name: value for name, value in example.groups.items() if name not in (*record, _STARTS)}
    return {**groups, **record}


def _target(example: Example) -> dict[str, Any]:
    """What the target becomes, under the key that belongs to the example's parts."""
    parts, target = example.parts, example.target
    if "tokens" in parts:
        tokens, tags = tokens_of(example)
        return {"tokens": list(tokens), "tags": list(tags)}
    if "context" in parts and isinstance(target, tuple):
        starts = [int(start) for start in example.groups.get(_STARTS, "").split()]
        return {"answers": {"text": list(target), "answer_start": starts}}
    if target is None:
        return {}
    if isinstance(target, tuple) and "chosen" in parts:
        answers = [parts[name] for name in _ranked(example)]
        responses = [answer if isinstance(answer, str) else _messages(answer) for answer in answers]
        return {"responses": responses, "scores": [float(score) for score in target]}
    if "messages" in parts:
        key = "references"
    elif "chosen" in parts:
        key = "margin"
    elif isinstance(target, float):
        key = "rating" if "completion" in parts else "score"
    else:
        key = "labels" if isinstance(target, tuple) else "label"
    return {key: list(target) if isinstance(target, tuple) else target}


def _ranked(example: Example) -> tuple[str, ...]:
    """The parts that are ranked answers, the best first; empty where a row has no score for each of its answers."""
    if "chosen" not in example.parts or not isinstance(example.target, tuple):
        return ()
    return tuple(name for name in example.parts if name in ("chosen", "rejected") or name.startswith("rejected_"))


def _messages(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    return [_message(turn) for turn in turns]


def _message(turn: Turn) -> dict[str, Any]:
    given = turn.message()
    return given if turn.train is None else {**given, "train": turn.train}


def write_records(path: Path, examples: Iterable[Example]) -> None:
    """Writes one JSON record a line, whole or not at all. Errors: MachineError as write_atomic."""
    with file_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        for example in examples:
            file.write(json.dumps(record_of(example), ensure_ascii=False) + "\n")
