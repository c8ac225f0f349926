"""The counterfactual of a whole row: its texts, answers, tags, places of answers and names of classes together.

What cannot be carried along exactly makes no counterfactual, and the reason is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...core.example import Example, Part, Target
from .names import known_person
from .swap import Swapper
from .words import Edit, applied, is_english, words_of

__all__ = ["Mirror", "Refused"]

_STARTS = "answer_starts"


@dataclass(frozen=True)
class Refused:
    """Why a row that holds terms has no counterfactual: a kind, or "kind: details"."""

    reason: str


@dataclass(frozen=True)
class Mirror:
    """Makes counterfactuals of rows. people: whether rows that name people of history are swapped too."""

    swapper: Swapper
    people: bool = False

    def of(self, example: Example, shift: int) -> tuple[Example, tuple[Edit, ...]] | Refused | None:
        """The row with the sides exchanged (id and origin as they were) and its edits; None where it has no term."""
        edits: list[Edit] = []
        parts: dict[str, Part] = {}
        for name, part in example.parts.items():
            if name == "tools":
                parts[name] = part
            elif isinstance(part, str):
                parts[name] = self._swapped(part, shift, edits)
            else:
                parts[name] = tuple(replace(turn, content=self._swapped(turn.content, shift, edits)) for turn in part)
        if not edits:
            return None
        refused = self._refusal(example, parts)
        if refused:
            return Refused(refused)
        target, groups = self._target(example, shift, edits)
        groups = {name: self._class(value, shift) for name, value in groups.items()}
        return replace(example, parts=parts, target=target, groups=groups), tuple(edits)

    def _swapped(self, text: str, shift: int, edits: list[Edit]) -> str:
        found = self.swapper.edits(text, shift)
        edits += found
        return applied(text, found)

    def _refusal(self, example: Example, parts: Mapping[str, Part]) -> str | None:
        text = example.text()
        if self.swapper.pronouns and not all(is_english(piece) for piece in _pieces(example)):
            return "another language"
        person = None if self.people else known_person(text)
        if self.swapper.pronouns and person:
            return f"a known person: {person}"
        if any(turn.extra.get("tool_calls") for part in parts.values() if not isinstance(part, str) for turn in part):
            return "tool calls"
        tokens = parts.get("tokens")
        if isinstance(tokens, str) and len(tokens.split(" ")) != len(str(example.parts["tokens"]).split(" ")):
            return "tags no longer fit"
        return None

    def _target(self, example: Example, shift: int, edits: list[Edit]) -> tuple[Target, dict[str, str]]:
        target, groups = example.target, dict(example.groups)
        if isinstance(target, str):
            return self._class(target, shift), groups
        if not isinstance(target, tuple) or "tokens" in example.parts:
            return target, groups
        context = example.parts.get("context")
        starts = [int(start) for start in groups.get(_STARTS, "").split()]
        if isinstance(context, str) and len(starts) == len(target):
            answers, places = _carried(context, target, starts, self.swapper.edits(context, shift))
            return answers, {**groups, _STARTS: " ".join(map(str, places))}
        if "messages" in example.parts or "context" in example.parts:
            return tuple(self._swapped(answer, shift, edits) for answer in target), groups
        return tuple(self._class(name, shift) for name in target), groups

    def _class(self, name: str, shift: int) -> str:
        """A class or group that is named by a term of the axis ("female") changes sides with the row."""
        return self.swapper.lexicon.becomes(name, shift) or name


def _pieces(example: Example) -> list[str]:
    pieces = []
    for name, part in example.parts.items():
        if name != "tools":
            pieces += [part] if isinstance(part, str) else [turn.content for turn in part]
    return [piece for piece in pieces if len(words_of(piece)) > 3]


def _carried(
    context: str, answers: Sequence[str], starts: Sequence[int], edits: Sequence[Edit]
) -> tuple[tuple[str, ...], list[int]]:
    """The answers and their places in the swapped context; an answer that an edit cuts takes the whole new word."""
    swapped = applied(context, edits)

    def place(at: int, *, end: bool) -> int:
        moved = 0
        for edit in edits:
            if edit.end <= at:
                moved += len(edit.new) - len(edit.old)
            elif edit.start < at:
                return edit.start + moved + (len(edit.new) if end else 0)
        return at + moved

    spans = [
        (place(start, end=False), place(start + len(answer), end=True))
        for answer, start in zip(answers, starts, strict=True)
    ]
    return tuple(swapped[first:last] for first, last in spans), [first for first, _ in spans]
