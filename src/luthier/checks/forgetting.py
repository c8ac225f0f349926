"""What fine-tuning cost elsewhere: perplexity on general text, before and after.

`perplexity_ratio` is tuned over base on the same rows: 1 means that nothing was lost, 1.10 that each token became ten
percent harder to predict. Units: perplexity in nats' exponent, ratio without unit; lower is better.
Source: McCloskey and Cohen 1989 for the phenomenon; the measure after Luo et al. 2023 (arXiv:2308.08747).
Errors: a DataError where the general text has no text in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example
from ..functional.perplexity import perplexity, perplexity_ratio, predicted

__all__ = ["Forgetting"]


class Forgetting(Check):
    """Reads `on`, a path or an embedded text that has nothing to do with the task, instead of the test split."""

    example: ClassVar[Mapping[str, Any]] = {"on": "embedded:general", "limit": 200}
    tasks: ClassVar[frozenset[str]] = frozenset({"causal_lm"})
    needs_items: ClassVar[bool] = False
    on: str = Field("embedded:general", description="general text that both models are measured on")
    limit: int | None = Field(1000, gt=0, description="at most so many rows of it, chosen by their ids")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        return context.choose(context.read(self.on), self.limit)

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        chosen, numbers = predicted(subject, examples)
        if not chosen:
            raise DataError(
                f"none of the {len(examples)} rows has anything to predict",
                where=self.on,
                expected="general text",
                remedy="name a file of text in checks: forgetting: on",
            )
        without = len(examples) - len(chosen)
        note = f"on {self.on}; {subject.about}" + (f"; {without} rows without anything to predict" if without else "")
        return context.scores(chosen, {"log_probability": numbers}, note=note)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        return [
            Measure("perplexity", "lower", perplexity, source="log_probability"),
            Measure(
                "perplexity_ratio",
                "lower",
                perplexity_ratio,
                source="log_probability",
                against="base",
                of=("tuned",),
                paired=False,
            ),
        ]
