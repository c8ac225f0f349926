"""Applies what people decided about rows: kept, dropped, relabeled or edited, as `luthier data review` wrote it.

What more than half of a row's reviewers decided holds, or what all did, or what an adjudicator said. A row on which
they disagree stays and is noted, as is one that has changed since it was reviewed. Facts: rows by what became of them,
how many of them have several reviewers, and Krippendorff's alpha. Errors: DataError for decisions that cannot be read.
Source: Krippendorff 2011 for the agreement; the rest is our own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ...core.contracts import Step, StepContext
from ...core.errors import DataError, Problem
from ...core.example import Example
from ...core.problems import refused
from ...functional.agreement import krippendorff
from ..review import Decision, Rule, Settled, decision_of, digest_of, read_decisions, settled

__all__ = ["Reviewed"]


class Reviewed(Step):
    """decisions: the file that reviewers wrote, or a list of decisions {id, reviewer, action}."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    example: ClassVar[Mapping[str, Any]] = {"decisions": [{"id": "r:1", "reviewer": "ann", "action": "drop"}]}

    decisions: str | tuple[dict[str, Any], ...] = Field(
        description="a file that `luthier data review` wrote, or a list"
    )
    rule: Rule = Field("majority", description="whose decision holds: that of more than half, or only that of all")
    unreviewed: Literal["keep", "drop"] = Field("keep", description="what becomes of rows that nobody looked at")

    @field_validator("decisions")
    @classmethod
    def _whole(cls, value: str | tuple[dict[str, Any], ...]) -> str | tuple[dict[str, Any], ...]:
        try:
            for item in () if isinstance(value, str) else value:
                decision_of(item)
        except ValueError as error:
            expected = "{id, reviewer, action: keep, drop, relabel or edit}"
            raise refused(Problem(f"a decision in the list: {error}", expected=expected)) from error
        return value

    def outside(self) -> Sequence[str]:
        return [self.decisions] if isinstance(self.decisions, str) else []

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        given = self.decisions
        decisions = read_decisions(Path(given)) if isinstance(given, str) else [decision_of(item) for item in given]
        held = settled(decisions, self.rule)
        known = {decision.id for decision in decisions}
        became: Counter[str] = Counter()
        votes: list[list[str]] = []
        for example in examples:
            found = held.get((example.id, digest_of(example))) or held.get((example.id, ""))
            if found is None:
                became["changed since" if example.id in known else "not reviewed"] += 1
                yield from self._unreviewed(example, example.id in known, context)
                continue
            votes.append([vote.value for vote in found.votes])
            became[found.decision.action if found.decision else "disagreed"] += 1
            yield from _applied(example, found, context)
        if became:
            alpha = krippendorff(votes)
            several = sum(len(values) > 1 for values in votes)
            context.facts.update(rows=dict(became), several_reviewers=several)
            context.facts["krippendorff_alpha"] = None if math.isnan(alpha) else alpha

    def _unreviewed(self, example: Example, seen: bool, context: StepContext) -> Iterator[Example]:
        if self.unreviewed == "drop":
            context.ledger.drop(example, "changed since its review" if seen else "not reviewed")
            return
        if seen:
            context.ledger.note(example, "changed since its review")
        yield example


def _applied(example: Example, found: Settled, context: StepContext) -> Iterator[Example]:
    """The row after its review; none where it is dropped."""
    decision = found.decision
    if decision is None:
        context.ledger.note(example, f"reviewers disagree: {found.tally}")
        yield example
        return
    by = ", ".join(sorted({vote.reviewer for vote in found.votes if vote.value == decision.value}))
    told = f"{decision.reason} ({by})" if decision.reason else by
    if decision.action == "drop":
        context.ledger.drop(example, f"dropped in review: {told}")
        return
    after = _changed(example, decision)
    if after != example:
        what = "relabeled" if decision.action == "relabel" else "edited"
        context.ledger.change(example, after, f"{what} in review: {told}")
    yield after


def _changed(example: Example, decision: Decision) -> Example:
    plain = example.to_json()
    new = dict(plain)
    if decision.action == "relabel":
        new["target"] = decision.target
    if decision.action == "edit":
        new["parts"] = {**plain["parts"], **(decision.parts or {})}
    if new == plain:
        return example
    try:
        changed = Example.from_json(new)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the row '{example.id}' as {decision.reviewer} edited it is none: {error!r}",
            expected="parts as they stand in the row",
            remedy="review the row again",
        ) from error
    return replace(changed, origin=replace(example.origin, steps=(*example.origin.steps, "reviewed")))
