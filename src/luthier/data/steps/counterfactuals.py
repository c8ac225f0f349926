"""Adds the counterfactual of each row: the sides of an axis exchanged, gender first, any other by a lexicon.

Gender: pronouns by their part of speech, given names in pairs of like frequency, titles, kinship, occupations that are
marked, kings and witches; case, marks and the article before a word are kept right, tags and places of answers follow.
Other axes: a YAML file of terms (data/swaps/lexicon.py shows one); of more than two sides one is drawn for each row. A
row that names a person of history, mixes languages or calls tools makes no pair unless asked, and the ledger says so;
nor does one whose counterfactual stands in the data already, so that no pair lies in two splits.
Errors: DataError for a lexicon that is wrong. Source: Lu et al. 2018 (arXiv:1807.11714) for `add`; Hall Maudslay et al.
2019 (arXiv:1909.00871) for names and for `both-halves`; the check of fluency is after Zmigrod et al. 2019.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ..swaps.lexicon import LEXICONS, load_lexicon, shipped
from ..swaps.names import names
from ..swaps.rows import Mirror, Refused
from ..swaps.swap import Swapper
from ..swaps.words import Edit, words_of

if TYPE_CHECKING:
    from ...models.likelihood import Likelihood

__all__ = ["Counterfactuals"]

_TOGETHER = 512
"""Rows whose counterfactuals are measured by the model together."""
_WITHOUT = "without counterfactual, "


@dataclass(frozen=True)
class _Made:
    """A row with its counterfactual, or with the reason why it has none."""

    row: Example
    other: Example | None = None
    edits: tuple[Edit, ...] = ()
    refused: str | None = None


@dataclass
class _Counted:
    """What the step tells of a split."""

    rows: int = 0
    made: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)

    def plain(self, axis: str) -> dict[str, Any]:
        return {
            "axis": axis,
            "rows": self.rows,
            "made": self.made,
            "refused": dict(sorted(self.refused.items())),
            "words": dict(self.words.most_common(20)),
        }


class Counterfactuals(Step):
    """Works on train unless `on` says otherwise; scope corpus, since a pair must not be there twice."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    example: ClassVar[Mapping[str, Any]] = {"lexicon": "gender", "mode": "both-halves"}

    lexicon: str = Field(
        "gender", min_length=1, description="a lexicon that ships (gender), or a YAML file of your own"
    )
    mode: Literal["add", "replace", "both-halves"] = Field(
        "add", description="add the pair to its row, put it in the row's place, or do so for half of the rows, drawn"
    )
    on: Literal["train", "all"] = Field("train", description="the splits that are worked on; a pair stays in its split")
    names: bool = Field(True, description="swap given names and titles too (gender)")
    people: Literal["keep", "swap"] = Field("keep", description="what happens to rows that name people of history")
    pair: str | None = Field(
        None, min_length=1, description="a group that both of a pair get, their id, for a later split_by"
    )
    fluency: str | None = Field(
        None, min_length=1, description="a language model that must find the pair as fluent, such as embedded:nano"
    )
    ratio: float = Field(1.1, gt=0, description="how many times the row's loss a token its counterfactual may have")

    def outside(self) -> Sequence[str]:
        """The lexicon, where it is the user's, and the model."""
        path = shipped(self.lexicon)
        own = () if path.parent == LEXICONS else (str(path),)
        return (*own, *(() if self.fluency is None else (self.fluency,)))

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        if self.on == "train" and context.split != "train":
            yield from examples
            return
        lexicon = load_lexicon(shipped(self.lexicon))
        gender = lexicon.axis == "gender"
        mirror = Mirror(Swapper(lexicon, names() if gender and self.names else None, gender), self.people == "swap")
        rows = examples if isinstance(examples, Sequence) else list(examples)
        there = {_content(row): row.id for other in context.others.values() for row in other}
        if self.mode == "add":
            there |= {_content(row): row.id for row in rows}
        counted = _Counted()
        model: Likelihood | None = None
        waiting = iter(rows)
        while chunk := list(islice(waiting, _TOGETHER)):
            made = [self._made(row, mirror, there, context) for row in chunk]
            if self.fluency is not None and any(one.other for one in made):
                model = model or self._model()
                made = self._fluent(made, model)
            for one in made:
                yield from self._given(one, lexicon.bodies, context, counted, lexicon.axis)
        if counted.rows:
            context.facts.update(counted.plain(lexicon.axis))

    def _made(self, row: Example, mirror: Mirror, there: dict[str, str], context: StepContext) -> _Made:
        if self.mode == "both-halves" and _drawn(context.seed, row.id, 2):
            return _Made(row)
        sides = len(mirror.swapper.lexicon.sides)
        found = mirror.of(row, 1 + _drawn(context.seed, f"{row.id} side", sides - 1))
        if found is None:
            return _Made(row)
        if isinstance(found, Refused):
            return _Made(row, refused=found.reason)
        other, edits = found
        content = _content(other)
        if content in there:
            return _Made(row, refused=f"there already: {there[content]}")
        if self.mode == "add":
            there[content] = row.id
        return _Made(row, other, edits)

    def _model(self) -> Likelihood:
        from ...models.likelihood import load_likelihood

        assert self.fluency is not None
        return load_likelihood(self.fluency)

    def _fluent(self, made: Sequence[_Made], model: Likelihood) -> list[_Made]:
        """Those whose counterfactual the model finds much less likely lose it."""
        kept = list(made)
        chosen = [(at, one, one.other) for at, one in enumerate(made) if one.other is not None]
        before = model.losses([one.row.text() for _, one, _ in chosen])
        after = model.losses([other.text() for _, _, other in chosen])
        for (at, one, _), was, now in zip(chosen, before, after, strict=True):
            if now > was * self.ratio:  # not for NaN: nothing is known of a text without two tokens
                kept[at] = _Made(one.row, refused=f"less fluent: {now / was:.2f} times the loss")
        return kept

    def _given(
        self, one: _Made, bodies: frozenset[str], context: StepContext, counted: _Counted, axis: str
    ) -> Iterator[Example]:
        """The row, its counterfactual or both, and what the ledger says of them."""
        counted.rows += 1
        row, other = one.row, one.other
        if one.refused:
            counted.refused[one.refused.partition(": ")[0]] += 1
            context.ledger.note(row, _WITHOUT + one.refused)
        if other is None:
            yield row
            return
        counted.made += 1
        counted.words.update(f"{edit.old.lower()} > {edit.new.lower()}" for edit in one.edits)
        body = next((word.text for word in words_of(row.text()) if word.text.lower() in bodies), None)
        if body:
            context.ledger.note(row, f"speaks of the body: {body}")
        reason = f"counterfactual, {axis}: {len(one.edits)} words"
        steps = (*row.origin.steps, self.component_name())
        if self.mode != "add":
            other = replace(other, origin=replace(row.origin, steps=steps))
            context.ledger.change(row, other, reason)
            yield other
            return
        origin = replace(row.origin, steps=steps, parents=(row.id,), synthetic=True)
        other = replace(other, id=f"{row.id}~{axis}", origin=origin)
        if self.pair is not None:
            known = row.groups.get(self.pair, row.id)
            named = replace(row, groups={**row.groups, self.pair: known}, origin=replace(row.origin, steps=steps))
            context.ledger.change(row, named, f"named as one of a pair: {known}")
            row, other = named, replace(other, groups={**other.groups, self.pair: known})
        yield row
        context.ledger.add(other, reason)
        yield other


def _content(row: Example) -> str:
    """What two equal rows have in common: their texts and target."""
    return hashlib.sha256(f"{row.text()}\x00{row.target}".encode()).hexdigest()


def _drawn(seed: int, name: str, below: int) -> int:
    """A number below `below` that depends on the seed and the name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") % below
