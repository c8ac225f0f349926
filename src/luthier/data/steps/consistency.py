"""Notes rows that contradict each other, and values that are missing where other rows have one.

Contradictory: one prompt (equal but for case, white space and punctuation, with all that was said before it) with
different answers, or one text with different targets. More than one good answer is no damage, so rows are noted, each
with the first row that says otherwise; `contradictions: drop` takes them all. Missing: an answer, target or group that
stands for none (null, N/A, ?), and a target, group or part that at least `usual` of the rows have. Facts: prompts with
several answers and the rows under them, missing values by place. Errors: none. Source: our own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example

__all__ = ["Consistency"]

_NONE = re.compile(r"\s*(?:n/?a|none|null|nan|nil|undefined|unknown|missing|\?+|-+|)\s*", re.IGNORECASE)


class Consistency(Step):
    """Looks at all rows of a split together; scope corpus."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    example: ClassVar[Mapping[str, Any]] = {"contradictions": "drop", "usual": 0.9}

    contradictions: Literal["note", "drop"] = Field("note", description="what happens to rows that contradict others")
    usual: float = Field(0.5, gt=0, le=1, description="share of the rows that have a value, for it to be missed")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = list(examples)
        against = _contradictions(rows)
        missing = _missing(rows, self.usual)
        for example in rows:
            for place in missing.get(example.id, ()):
                context.ledger.note(example, f"missing value: {place}")
            if example.id in against:
                kind, other = against[example.id]
                if self.contradictions == "drop":
                    context.ledger.drop(example, kind, of=other)
                    continue
                context.ledger.note(example, kind, of=other)
            yield example
        context.facts.update(
            contradictory=dict(Counter(kind for kind, _ in against.values())),
            missing=dict(Counter(place for places in missing.values() for place in places).most_common()),
        )


def _contradictions(rows: Sequence[Example]) -> dict[str, tuple[str, str]]:
    """For the id of each row that contradicts another: how, and the first row that says otherwise."""
    said: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        for kind, asked, answer in _statements(row):
            if asked:
                said[kind, asked].append((answer, row.id))
    found: dict[str, tuple[str, str]] = {}
    for (kind, _), answers in said.items():
        first: dict[str, str] = {}  # of each answer the first row: one prompt may have very many rows
        for answer, row_id in answers:
            first.setdefault(answer, row_id)
        if len(first) > 1:
            for answer, row_id in answers:
                found[row_id] = kind, next(other for otherwise, other in first.items() if otherwise != answer)
    return found


def _statements(row: Example) -> Iterator[tuple[str, str, str]]:
    """What a row states: the kind of contradiction it could be in, what is asked, and what it answers."""
    messages = row.parts.get("messages")
    if isinstance(messages, tuple):
        if messages and messages[-1].trained and not messages[-1].extra.get("tool_calls"):
            asked = "\x1e".join(f"{turn.role} {_plain(turn.content)}" for turn in messages[:-1])
            yield "same prompt, different answers", asked, _plain(messages[-1].content)
    elif row.target is not None:
        target = row.target if isinstance(row.target, str) else repr(row.target)
        yield "same text, different targets", _plain(row.text()), target


def _plain(text: str) -> str:
    """The text without its case, white space and punctuation; as it is where that leaves nothing."""
    return " ".join(re.sub(r"[\W_]+", " ", text.casefold()).split()) or text


def _missing(rows: Sequence[Example], usual: float) -> dict[str, list[str]]:
    """For the id of each row that lacks something: the places."""
    stands: Counter[str] = Counter()
    held = []
    for row in rows:
        places = {f"part {name}" for name in row.parts} | {f"group {name}" for name in row.groups}
        places |= {"target"} if row.target is not None else set()
        empty = {f"group {name}" for name, value in row.groups.items() if _NONE.fullmatch(value)}
        empty |= {"target"} if isinstance(row.target, str) and _NONE.fullmatch(row.target) else set()
        messages = row.parts.get("messages")
        if isinstance(messages, tuple) and messages and not messages[-1].extra.get("tool_calls"):
            empty |= {"answer"} if _NONE.fullmatch(messages[-1].content) else set()
        held.append((row.id, places, empty))
        stands.update(places - empty)
    expected = {place for place, count in stands.items() if count >= usual * len(rows)}
    return {
        row_id: sorted((expected - places) | empty) for row_id, places, empty in held if (expected - places) or empty
    }
