"""The step that all methods of augmentation share: which rows get variants, which texts of a row, and what is told.

A method only says how texts are put differently. Variants keep target, groups and weight of their row, whose id they
carry as parent; rows that are themselves variants get none. Nothing that is learned word for word is changed: answers,
the context of a question, documents. A text without a class is no document where others have one: it is unlabeled. Of
tagged tokens only those outside of entities are, and only by methods that keep the words' number and order. A variant
that equals another row, of whatever split, is not added, so that none lies in two splits.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example, Part
from ..strata import drawn
from .draws import seed_of
from .texts import Job, Refused, held_in, phrases

__all__ = ["Augmenting", "Change", "Said"]

Said = str | Refused
"""A text put differently, or why it was not."""
Change = Callable[[Sequence[Job]], Sequence[Said]]
"""Puts texts differently, each by the draws of its own seed."""

_CHANGED = ("text", "tokens", "question", "a", "b", "messages", "prompt")
_TOGETHER = 256
"""Rows whose texts a method is given together."""


class Augmenting(Step):
    """A method hands what puts texts differently to `variants`; its parameters come on top of these."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"

    share: float = Field(1.0, gt=0, le=1, description="share of the rows that get variants, drawn by seed and id")
    times: int = Field(1, ge=1, le=100, description="variants of each of these rows; fewer where some come out equal")
    protect: tuple[str, ...] = Field(
        (), description="words and phrases that stay as they are, besides numbers, placeholders, code and addresses"
    )

    @cached_property
    def _phrases(self) -> re.Pattern[str] | None:
        return phrases(self.protect)

    def variants(
        self, examples: Iterable[Example], context: StepContext, changer: Callable[[], Change]
    ) -> Iterator[Example]:
        """The rows, each followed by its variants. changer: makes what puts texts differently, once a run and only
        where there is a text.
        """
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        classes = any(isinstance(row.parts.get("text"), str) and row.target is not None for row in rows)
        there = {_content(row) for other in context.others.values() for row in other} | {_content(row) for row in rows}
        ids = {row.id for row in rows if "~" in row.id}
        told: Counter[str] = Counter()
        change: Change | None = None
        waiting = iter(rows)
        while chunk := list(islice(waiting, _TOGETHER)):
            planned = [self._planned(row, context.seed, told, classes) for row in chunk]
            jobs = [job for wanted in planned for variant in wanted for job in variant.jobs]
            if jobs and change is None:
                change = changer()
            said = iter(change(jobs) if change is not None else ())
            for row, wanted in zip(chunk, planned, strict=True):
                yield row
                for variant in wanted:
                    made = self._made(row, variant.spots, list(islice(said, len(variant.spots))), there, told)
                    if made is not None:
                        made = replace(made, id=self._named(row.id, ids))
                        context.ledger.add(made, f"{self.component_name()}: of {row.id}")
                        told["variants"] += 1
                        yield made
        variants, chosen = told.pop("variants", 0), told.pop("chosen", 0)
        context.facts.update(rows=len(rows), chosen=chosen, variants=variants, without=dict(sorted(told.items())))

    def _planned(self, row: Example, seed: int, told: Counter[str], classes: bool) -> list[_Variant]:
        """The variants that are to be tried of a row; classes: whether texts have them."""
        name = self.component_name()
        if drawn(seed, f"{row.id} {name}") >= self.share:
            return []
        told["chosen"] += 1
        if row.origin.synthetic:
            told["a variant itself"] += 1
            return []
        spots = _spots(row, classes)
        if not spots:
            told["nothing to change"] += 1
            return []
        held = {spot: [*held_in(spot.text, self._phrases), *_entities(row, spot)] for spot in spots}
        rigid = "tokens" in row.parts
        return [
            _Variant(
                spots,
                [
                    Job(spot.text, sorted(held[spot]), rigid, seed_of(seed, name, row.id, number, place))
                    for place, spot in enumerate(spots)
                ],
            )
            for number in range(self.times)
        ]

    def _made(
        self, row: Example, spots: Sequence[_Spot], said: Sequence[Said], there: set[bytes], told: Counter[str]
    ) -> Example | None:
        """The row with its texts as they were put; None, and counted why, where nothing new came of it."""
        texts = {spot: text for spot, text in zip(spots, said, strict=True) if isinstance(text, str)}
        if not texts:
            told[next(text.reason for text in said if isinstance(text, Refused))] += 1
            return None
        steps = (*row.origin.steps, self.component_name())
        origin = replace(row.origin, parents=(row.id,), steps=steps, synthetic=True)
        made = replace(row, parts=_replaced(row.parts, texts), origin=origin)
        content = _content(made)
        if content in there:
            told["equal to a row that is there"] += 1
            return None
        there.add(content)
        return made

    def _named(self, parent: str, ids: set[str]) -> str:
        """An id that no other row has: this step may have run on these rows before."""
        number = 1
        while (name := f"{parent}~{self.component_name()}.{number}") in ids:
            number += 1
        ids.add(name)
        return name


@dataclass(frozen=True, slots=True)
class _Spot:
    """A text of a row that may be put differently: its part, and the turn in it."""

    part: str
    turn: int | None
    text: str


@dataclass(frozen=True, slots=True)
class _Variant:
    """What a variant is made of: the texts of its row, and a job for each."""

    spots: Sequence[_Spot]
    jobs: Sequence[Job]


def _spots(row: Example, classes: bool) -> list[_Spot]:
    """The texts of a row that are not themselves learned; classes: whether texts have them, as documents do not."""
    found: list[_Spot] = []
    for name in _CHANGED:
        part = row.parts.get(name)
        if isinstance(part, str) and (name != "text" or classes):
            found.append(_Spot(name, None, part))
        elif isinstance(part, tuple):
            found += [
                _Spot(name, number, turn.content)
                for number, turn in enumerate(part)
                if turn.role == "user" and not turn.trained
            ]
    return [spot for spot in found if spot.text.strip()]


def _entities(row: Example, spot: _Spot) -> list[tuple[int, int]]:
    """The places of tagged words."""
    if spot.part != "tokens" or not isinstance(row.target, tuple):
        return []
    found, at = [], 0
    for word, tag in zip(spot.text.split(" "), row.target, strict=False):
        if tag != "O":
            found.append((at, at + len(word)))
        at += len(word) + 1
    return found


def _replaced(parts: Mapping[str, Part], texts: Mapping[_Spot, str]) -> dict[str, Part]:
    new: dict[str, Part] = dict(parts)
    for spot, text in texts.items():
        part = new[spot.part]
        if isinstance(part, str):
            new[spot.part] = text
        else:
            new[spot.part] = tuple(
                replace(turn, content=text) if number == spot.turn else turn for number, turn in enumerate(part)
            )
    return new


def _content(row: Example) -> bytes:
    """What two rows of the same words have in common, whatever their class."""
    words = " ".join(row.text().casefold().split())
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).digest()
