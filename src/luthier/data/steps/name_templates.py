"""Adds tagged sentences that are made: letters, forms, chat with people, organizations, places and street addresses.

Open sets of tagged names are small, and none tags street addresses. Sentences come from rules of our own (data/tagged),
which were written without a look at the sentences that anonymizing is measured on; a share of their names is lent by
the tagged rows, which are then their parents. An address is one span with all that is written on the envelope: flat,
street and number, postcode, city, country. A share of the tagged rows comes once more, each name in it in another's
place: one of the same kind, from another row or made. What stands in some split already is not added. Rows without tags
are left alone, and nothing is then added. Errors: DataError where the rows' tags are none of PER, ORG and LOC, or mark
no spans (parts of speech). Source: Dai and Adel 2020 (arXiv:2010.11683), mention replacement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.errors import DataError
from ...core.example import Example, Origin
from ...functional.tagging import spans_of
from ..augment.draws import Draws, seed_of
from ..parts import tokens_of
from ..tagged.made import KINDS, Sentence, expanded, in_tags, made

__all__ = ["NameTemplates"]

_SHARED = ("PER", "ORG", "LOC")
_SHOWN = 10


class NameTemplates(Step):
    """Tags of the rows must be BIO with the kinds PER, ORG and LOC; the format `tags` names kinds so (`kinds`)."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"rows": 2000, "replaced": 0.2}

    rows: int = Field(6000, ge=0, le=1_000_000, description="sentences to make")
    lent: float = Field(0.3, ge=0, le=1, description="share of their names that tagged rows lend")
    replaced: float = Field(0.5, ge=0, le=1, description="share of the rows with names that come again with others")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        given = list(examples)
        yield from given
        tagged = [row for row in given if "tokens" in row.parts and isinstance(row.target, tuple)]
        if not tagged:
            context.facts.update(tagged=0, made=0, replaced=0)
            return
        pool = _Pool.of(tagged)
        _check(tagged)
        ids = {row.id for row in given}
        others = (row for rows in context.others.values() for row in rows)
        there = {row.parts.get("tokens") for row in (*tagged, *others)}
        counts = {"made": 0, "replaced": 0}
        for kind, row in self._new(tagged, pool, context.seed):
            if row.parts["tokens"] in there:
                continue
            there.add(row.parts["tokens"])
            row = replace(row, id=_free(row.id, ids))
            context.ledger.add(
                row, "sentence from rules" if kind == "made" else f"other names: of {row.origin.parents[0]}"
            )
            counts[kind] += 1
            yield row
        context.facts.update(tagged=len(tagged), mentions={kind: len(pool.names[kind]) for kind in _SHARED}, **counts)

    def _new(self, rows: Sequence[Example], pool: _Pool, seed: int) -> Iterator[tuple[str, Example]]:
        for row in rows:
            other = self._replaced(row, pool, seed)
            if other is not None:
                yield "replaced", other
        for number in range(1, self.rows + 1):
            yield "made", self._made(number, pool, seed, rows[0])

    def _made(self, number: int, pool: _Pool, seed: int, first: Example) -> Example:
        """A sentence from the rules; rows that lent it a name are its parents."""
        parents: list[str] = []

        def lend(rule: str, draws: Draws) -> str | None:
            if rule not in _SHARED or not pool.names[rule] or draws.uniform() >= self.lent:
                return None
            name, parent = draws.one(pool.names[rule])
            parents.append(parent)
            return name

        tokens, tags = in_tags(made(Draws(seed_of(seed, "name_templates", number)), lend))
        origin = Origin(first.origin.file, 0, tuple(dict.fromkeys(parents)), ("name_templates",), True)
        return Example(f"name_templates:{number}", {"tokens": tokens}, origin, tags)

    def _replaced(self, row: Example, pool: _Pool, seed: int) -> Example | None:
        """The row with other names in it; None where it has none, is made itself, or is not drawn."""
        draws = Draws(seed_of(seed, "name_templates", row.id))
        tokens, tags = tokens_of(row)
        spans = [span for span in spans_of(tags) if span[0] in KINDS]
        if not spans or row.origin.synthetic or draws.uniform() >= self.replaced:
            return None
        words: list[str] = []
        new: list[str] = []
        at = 0
        for kind, start, end in spans:
            name = pool.other(kind, " ".join(tokens[start:end]), draws).split(" ")
            words += [*tokens[at:start], *name]
            new += [*tags[at:start], f"B-{kind}", *[f"I-{kind}"] * (len(name) - 1)]
            at = end
        origin = replace(row.origin, parents=(row.id,), steps=(*row.origin.steps, "name_templates"), synthetic=True)
        return replace(
            row,
            id=f"{row.id}~name_templates",
            parts={**row.parts, "tokens": " ".join([*words, *tokens[at:]])},
            target=(*new, *tags[at:]),
            origin=origin,
        )


@dataclass
class _Pool:
    """The names that tagged rows hold, by kind: words joined by spaces, and the first row that has them."""

    names: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    @classmethod
    def of(cls, rows: Sequence[Example]) -> _Pool:
        found: dict[tuple[str, str], str] = {}
        for row in rows:
            tokens, tags = tokens_of(row)
            for kind, start, end in spans_of(tags):
                if kind in KINDS:
                    found.setdefault((kind, " ".join(tokens[start:end])), row.id)
        pool = cls()
        for (kind, name), parent in found.items():
            pool.names[kind].append((name, parent))
        return pool

    def other(self, kind: str, name: str, draws: Draws) -> str:
        """Another name of the kind, half of them made."""
        names = self.names[kind]
        if draws.uniform() < 0.5 and len(names) > 1:
            drawn, _ = draws.one(names)
            if drawn != name:
                return drawn
        return in_tags(Sentence(expanded(kind, draws)))[0]


def _check(rows: Sequence[Example]) -> None:
    tags = {tag for row in rows for tag in tokens_of(row)[1]} - {"O"}
    kinds = sorted({tag[2:] if tag[1:2] == "-" else tag for tag in tags})
    if kinds and not {tag[2:] for tag in tags if tag[1:2] == "-"} & set(KINDS):
        more = f" and {len(kinds) - _SHOWN} more" if len(kinds) > _SHOWN else ""
        raise DataError(
            f"the rows' tags are of the kinds {', '.join(kinds[:_SHOWN])}{more}, and none is among those of the step",
            where=rows[0].origin.file,
            expected="the kinds PER, ORG and LOC",
            remedy="name them so: format: {tags: {kinds: {person: PER, location: LOC, ...}}}",
        )


def _free(name: str, ids: set[str]) -> str:
    """An id that no other row has: this step may have run on these rows before."""
    number, free = 1, name
    while free in ids:
        number += 1
        free = f"{name}.{number}"
    ids.add(free)
    return free
