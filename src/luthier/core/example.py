"""The one row type, from the file to the encoder: Example, with its Turns and its Origin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["Example", "Origin", "Part", "Target", "Turn", "turns"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    `train` overrides which turns are learned: None means that assistant turns are, others are not.
    `extra` holds what else a message carries for the chat template (tool_calls, name, tool_call_id).
    """

    role: str
    content: str
    train: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether the turn is learned."""
        return self.role == "assistant" if self.train is None else self.train

    def message(self) -> dict[str, Any]:
        """The turn as chat templates expect it."""
        return {"role": self.role, "content": self.content, **self.extra}


_encoded = json.JSONEncoder(ensure_ascii=False).encode

Part = str | tuple[Turn, ...]
Target = str | float | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an example comes from: file and 1-based row in it, ids of parents, steps that changed it."""

    file: str
    row: int
    parents: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    synthetic: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclass(frozen=True, slots=True)
class Example:
    """A row of data as every step, objective and check sees it.

    parts: named contents, text or turns; which an objective can learn from is its `needs`:
        "text", or "messages" with "tools" (their JSON) where there are any;
        "tokens": words joined by single spaces, as many as the target has tags (BIO);
        "question" and "context": the target is the answers, and the group "answer_starts" their places ("177 249",
        characters of the context as it was read);
        "prompt" with "chosen" and "rejected": turns; the target is the margin between the two, where it is known;
        "prompt" and "completion": turns, whose target is "good" or "bad";
        "a" and "b", and "negative": texts; the target is their relation (a class) or how alike they are (a number).
    target: the class, classes, number, tags or reference answers; None where the parts hold it all.
    groups: task, domain, source, protected attributes: what splits, balances and audits go by.
    weight: what it counts in the loss. repeat: how often it comes in an epoch, on average.
    """

    id: str
    parts: Mapping[str, Part]
    origin: Origin
    target: Target = None
    groups: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    repeat: float = 1.0

    def text(self) -> str:
        """All of the example's text in reading order, for steps that look at content."""
        pieces: list[str] = []
        for part in self.parts.values():
            if isinstance(part, str):
                pieces.append(part)
            else:
                pieces.extend(turn.content for turn in part)
        return "\n".join(pieces)

    def map_text(self, change: Any, step: str) -> Example:
        """The example with `change(text)` applied to every text in it; the same object if nothing changed."""
        parts: dict[str, Part] = {}
        for name, part in self.parts.items():
            if isinstance(part, str):
                parts[name] = change(part)
            else:
                parts[name] = tuple(replace(turn, content=change(turn.content)) for turn in part)
        if parts == dict(self.parts):
            return self
        return replace(self, parts=parts, origin=replace(self.origin, steps=(*self.origin.steps, step)))

    def plain_parts(self) -> dict[str, Any]:
        """The parts as plain values, as in `to_json`."""
        return {
            name: part if isinstance(part, str) else [_turn_to_json(turn) for turn in part]
            for name, part in self.parts.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` restores to an equal example."""
        return {
            "id": self.id,
            "parts": self.plain_parts(),
            "target": list(self.target) if isinstance(self.target, tuple) else self.target,
            "groups": dict(self.groups),
            "weight": self.weight,
            "repeat": self.repeat,
            "origin": {
                "file": self.origin.file,
                "row": self.origin.row,
                "parents": list(self.origin.parents),
                "steps": list(self.origin.steps),
                "synthetic": self.origin.synthetic,
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Example:
        """The example that `to_json` wrote."""
        origin = value["origin"]
        target = value["target"]
        return cls(
            id=value["id"],
            parts={
                name: part if isinstance(part, str) else tuple(_turn_from_json(turn) for turn in part)
                for name, part in value["parts"].items()
            },
            origin=Origin(
                origin["file"],
                origin["row"],
                tuple(origin["parents"]),
                tuple(origin["steps"]),
                origin["synthetic"],
            ),
            target=tuple(target) if isinstance(target, list) else target,
            groups=value["groups"],
            weight=value["weight"],
            repeat=value["repeat"],
        )

    def __str__(self) -> str:
        return _encoded(self.to_json())


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    value: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.train is not None:
        value["train"] = turn.train
    if turn.extra:
        value["extra"] = dict(turn.extra)
    return value


def _turn_from_json(value: Mapping[str, Any]) -> Turn:
    return Turn(value["role"], value["content"], value.get("train"), value.get("extra", {}))


def turns(*pairs: Sequence[str]) -> tuple[Turn, ...]:
    """Turns from (role, content) pairs."""
    return tuple(Turn(role, content) for role, content in pairs)
