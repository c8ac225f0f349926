"""Drops rows that break a rule of quality: for documents those of the published pipelines, for instructions our own.

Profiles: `documents` judges the part "text", `instructions` each learned answer with its prompt; `auto` takes the one
that goes with the row, and leaves labeled text alone. `rules` sets a rule's limit, or switches it off with null. The
ledger has each broken rule with the measured value and its limit. Facts: for each rule how many rows broke it, and how
many broke it alone. Errors: a wrong rule's name is refused with the nearest. Sources: Gopher (Rae et al. 2021), C4
(Raffel et al. 2020), RefinedWeb (Penedo et al. 2023), FineWeb (Penedo et al. 2024); data/text/rules.py has the places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ...core.contracts import Step, StepContext
from ...core.errors import Problem, nearest
from ...core.example import Example
from ...core.problems import refused
from ..text.answers import INSTRUCTIONS, exchanges
from ..text.document import Document
from ..text.rules import DOCUMENTS, Rule

__all__ = ["Quality"]

_NAMES = tuple(dict.fromkeys([*(rule.name for rule in DOCUMENTS), *(rule.name for rule in INSTRUCTIONS)]))


class Quality(Step):
    """Judges one row at a time; scope row."""

    scope: ClassVar[Literal["row", "corpus"]] = "row"
    example: ClassVar[Mapping[str, Any]] = {"rules": {"gopher_fewest_words": 10, "refusal": None}}

    profile: Literal["auto", "documents", "instructions"] = Field("auto", description="which rules hold")
    rules: dict[str, float | None] = Field(
        default_factory=dict, description="limits by rule in place of the published ones; null switches a rule off"
    )
    action: Literal["drop", "note"] = Field("drop", description="what happens to a row that breaks a rule")

    @field_validator("rules")
    @classmethod
    def _known(cls, rules: dict[str, float | None]) -> dict[str, float | None]:
        wrong = [
            Problem(
                f"there is no rule '{name}'",
                where=name,
                expected="one of " + ", ".join(_NAMES),
                remedy=f"did you mean '{near}'?" if (near := nearest(name, _NAMES)) else None,
            )
            for name in rules
            if name not in _NAMES
        ]
        if wrong:
            raise refused(*wrong)
        return rules

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        broken_by: Counter[str] = Counter()
        alone: Counter[str] = Counter()
        judged = failed = 0
        for example in examples:
            found = self._broken(example)
            judged += found is not None
            if found:
                failed += 1
                broken_by.update(found.keys())
                if len(found) == 1:
                    alone.update(found.keys())
                reason = "; ".join(found.values())
                if self.action == "drop":
                    context.ledger.drop(example, reason)
                    continue
                context.ledger.note(example, reason)
            yield example
        context.facts.update(
            judged=judged,
            failed=failed,
            rules={name: {"rows": count, "alone": alone[name]} for name, count in broken_by.most_common()},
        )

    def _broken(self, example: Example) -> dict[str, str] | None:
        """The broken rules and what each says of the row; None for a row that no profile judges."""
        messages, text = example.parts.get("messages"), example.parts.get("text")
        if self.profile != "documents" and isinstance(messages, tuple):
            found: dict[str, str] = {}
            for exchange in exchanges(messages):
                for name, said in self._of(INSTRUCTIONS, exchange):
                    found.setdefault(name, said)
            return found
        whole = text if isinstance(text, str) else example.text() if self.profile == "documents" else None
        if whole is None or (self.profile == "auto" and example.target is not None) or self.profile == "instructions":
            return None
        return dict(self._of(DOCUMENTS, Document(whole)))

    def _of(self, rules: Iterable[Rule[Any]], measured: Any) -> Iterator[tuple[str, str]]:
        for rule in rules:
            limit = self.rules.get(rule.name, rule.limit)
            if limit is not None:
                value = rule.measure(measured)
                if rule.broken(value, limit):
                    yield rule.name, f"{rule.name}: {value:.4g} (at {rule.bound} {limit:g})"
