"""Adds conversations that a local model makes up after the example of the rows: self-instruct.

The model is shown some of the rows' requests, drawn, and asked for one more; what it gives is answered by the same
model. A request stays if it shares less than `similar` with every request there is (ROUGE-L), old and new, has 3 to 150
words and asks for nothing that text cannot give (images, files). So far this is the paper's filter; its sorting into
classification and other tasks is left out. The rows are as right as the model is: what a small one answers is mostly
wrong, so review what comes (`luthier data review`). New rows name the rows that were shown as parents and follow all
others. Only conversations that begin with one request serve as examples.
Errors: as load_model. Source: Wang et al. 2023, Self-Instruct (arXiv:2212.10560), section 2; ROUGE-L: Lin 2004.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example, Origin, Turn
from ...functional.overlap import Sought, words
from ..augment.draws import Draws, seed_of
from ..augment.rewrite import Manner, Rewrite, asker

__all__ = ["SelfInstruct"]

_BEYOND = re.compile(r"\b(?:images?|pictures?|photos?|graphs?|files?|videos?|audio|draw|plot|map)\b", re.IGNORECASE)
_NUMBERED = re.compile(r"^\s*(?:task\s*)?\d{1,3}\s*[.:)]\s*|^\s*task\s*:\s*", re.IGNORECASE)
_FEWEST, _MOST = 3, 150
_TOGETHER = 16
"""Requests that are made at once; what is made together is held against each other in its order."""


class SelfInstruct(Step):
    """Makes new rows of conversations; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"model": "embedded:nano", "count": 2, "shown": 3, "max_new_tokens": 24}

    model: str = Field(min_length=1, description="a causal model: a run, a folder or a hub id")
    count: int = Field(ge=1, description="new rows that are wanted")
    shown: int = Field(8, ge=1, le=50, description="requests that the model is shown for each new one")
    similar: float = Field(0.7, gt=0, le=1, description="ROUGE-L from which a request is too like another")
    tries: int = Field(3, ge=1, le=100, description="requests that are made for each row that is wanted, at most")
    temperature: float = Field(0.8, gt=0, description="of the requests; answers take the most probable words")
    top_p: float = Field(0.95, gt=0, le=1, description="draws come from the most probable words of this share")
    max_new_tokens: int = Field(256, ge=1, description="longest request and longest answer, in tokens")

    def outside(self) -> Sequence[str]:
        return (self.model,)

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        seeds: list[tuple[str, str, Origin]] = []
        ids: set[str] = set()
        count = 0
        for example in examples:
            yield example
            count += 1
            ids.update([example.id] if "~" in example.id else [])
            request = _request(example)
            if request is not None:
                seeds.append((example.id, request, example.origin))
        refused: Counter[str] = Counter()
        made = 0
        if seeds:
            for row in self._made(seeds, ids, context.seed, refused):
                context.ledger.add(row, "self_instruct: made up by the model")
                made += 1
                yield row
        if count:
            context.facts.update(rows=count, examples=len(seeds), made=made, refused=dict(sorted(refused.items())))

    def _made(
        self, seeds: Sequence[tuple[str, str, Origin]], ids: set[str], seed: int, refused: Counter[str]
    ) -> Iterator[Example]:
        """New rows, in the order in which their requests were made."""
        asking = asker(self.model, Manner(self.temperature, self.top_p, self.max_new_tokens))
        answering = asker(self.model, Manner(0.0, 1.0, self.max_new_tokens))
        known = _Known(self.similar)
        for _, request, _ in seeds:
            known.add(request)
        made, limit = 0, self.count * self.tries
        for begin in range(0, limit, _TOGETHER):
            numbers = range(begin, min(begin + _TOGETHER, limit))
            shown = [Draws(seed_of(seed, "shown", number)).some(seeds, self.shown) for number in numbers]
            said = asking([_question(some) for some in shown], [seed_of(seed, "said", number) for number in numbers])
            kept: list[tuple[int, str]] = []
            for place, text in enumerate(said):
                request = _NUMBERED.sub("", text.strip()).strip()
                reason = _unfit(request) or known.like(request)
                if reason:
                    refused[reason] += 1
                elif made + len(kept) < self.count:
                    known.add(request)
                    kept.append((place, request))
            for (place, request), answer in zip(kept, _answers(answering, kept), strict=True):
                if not answer:
                    refused["no answer"] += 1
                    continue
                made += 1
                yield _row(request, answer, [(name, origin) for name, _, origin in shown[place]], ids)
            if made >= self.count:
                return


class _Known:
    """The requests that there are; a new one must differ from all."""

    def __init__(self, similar: float) -> None:
        self._similar = similar
        self._there: list[list[str]] = []

    def add(self, request: str) -> None:
        self._there.append(words(request))

    def like(self, request: str) -> str | None:
        """The refusal of a request whose ROUGE-L F-measure with a known one reaches the limit."""
        own = words(request)
        sought = Sought(own)
        for other in self._there:
            both = len(own) + len(other)
            near = 2 * min(len(own), len(other)) >= self._similar * both > 0  # it cannot be like one of another length
            if near and 2 * sought.common(other) >= self._similar * both:
                return "too like another request"
        return None


def _request(example: Example) -> str | None:
    """The request that a conversation begins with, a system's turn aside."""
    messages = example.parts.get("messages")
    said = [turn for turn in messages if turn.role != "system"] if isinstance(messages, tuple) else []
    if len(said) < 2 or said[0].role != "user" or said[1].role != "assistant" or "tools" in example.parts:
        return None
    return said[0].content.strip() or None


def _question(shown: Sequence[tuple[str, str, Origin]]) -> str:
    tasks = "\n".join(f"{number}. {' '.join(request.split())}" for number, (_, request, _) in enumerate(shown, 1))
    return f"Here are tasks. Write one more of a new kind, and nothing else.\n{tasks}\n{len(shown) + 1}."


def _unfit(request: str) -> str | None:
    length = len(request.split())
    if not _FEWEST <= length <= _MOST:
        return "too short or too long"
    if not request[0].isalnum() and request[0] not in "\"'“¿¡":
        return "no request"
    return "asks for more than text" if _BEYOND.search(request) else None


def _answers(answering: Rewrite, kept: Sequence[tuple[int, str]]) -> list[str]:
    return answering([request for _, request in kept], [0] * len(kept)) if kept else []


def _row(request: str, answer: str, parents: Sequence[tuple[str, Origin]], ids: set[str]) -> Example:
    first, origin = parents[0]
    number = 1
    while (name := f"{first}~self_instruct.{number}") in ids:
        number += 1
    ids.add(name)
    from_all = Origin(origin.file, origin.row, tuple(name for name, _ in parents), ("self_instruct",), synthetic=True)
    return Example(name, {"messages": (Turn("user", request), Turn("assistant", answer))}, from_all)
