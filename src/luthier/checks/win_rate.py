"""How often the tuned model's answer is judged better than base's, by a reward model or by a rule.

Both answer the same prompts; a tie counts half. score is the judge's own number (a reward, or 0 and 1 of the rule),
length that of the answers in characters. length_correlation is Pearson's, of the differences between tuned and base in
score and in length: near 1 the judge pays for length. A reward model sees one answer at a time, so that there is no
order to prefer. Source: Dubois et al. 2023, AlpacaFarm (arXiv:2305.14387); length: Dubois et al. 2024
(arXiv:2404.04475). Errors: DataError without prompts; ModelError for a judge that cannot be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from ..core.contracts import Floats
from ..core.errors import DataError, Problem
from ..core.evidence import Check, CheckContext, Measure, Sample, Scores, Subject
from ..core.example import Example, Turn
from ..core.problems import refused
from ..data.parts import prompt_turns, wanted_of
from ..functional.pair_statistics import correlation, wins
from ..functional.statistics import OfSums, row_mean

if TYPE_CHECKING:
    from ..core.recipe import Phase, Recipe

__all__ = ["WinRate"]


class WinRate(Check):
    """Generates an answer to each item's prompt; one of judge and pattern says what it is worth."""

    example: ClassVar[Mapping[str, Any]] = {"pattern": "(?i)thank you", "limit": 100}
    tasks: ClassVar[frozenset[str]] = frozenset({"causal_lm"})
    needs: ClassVar[frozenset[str]] = frozenset({"chosen", "completion", "messages"})
    judge: str | None = Field(None, description="a reward model: a run, a folder or a hub id")
    pattern: str | None = Field(None, description="a regular expression that a good answer matches somewhere")
    limit: int | None = Field(None, gt=0, description="at most so many items, chosen by their ids")
    samples: int = Field(12, ge=0, description="items kept with prompt and answer for the report")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise refused(Problem(f"the pattern cannot be read: {error}", expected="a regular expression")) from error
        return value

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        if (self.judge is None) == (self.pattern is None):
            found = "a judge and a pattern" if self.judge else "neither a judge nor a pattern"
            yield Problem(f"win_rate has {found}", None, "one of them", "win_rate: {judge: runs/reward}")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        asked = [example for example in test if prompt_turns(example)]
        if not asked:
            raise DataError(
                f"none of the {len(test)} test items has a prompt",
                expected="conversations, or rows with a prompt",
                remedy="set data.test to such a file, or take win_rate out of checks",
            )
        return context.choose(asked, self.limit)

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        answers = subject.generate(examples)
        scores = self._ruled(answers) if self.judge is None else _judged(self.judge, examples, answers)
        lengths = np.array([len(answer) for answer in answers], dtype=np.float64)
        shown = {example.id for example in context.choose(examples, self.samples)} if self.samples else set()
        samples = tuple(
            Sample(example.id, prompt_turns(example)[-1].content, " ".join(wanted_of(example)[:1]), answer)
            for example, answer in zip(examples, answers, strict=True)
            if example.id in shown
        )
        values = {"score": scores[:, None], "length": lengths[:, None], "both": np.stack([scores, lengths], axis=1)}
        by = f"judged by {self.judge}" if self.judge else f"judged by the pattern {self.pattern}"
        return context.scores(examples, values, samples=samples, note=f"{subject.about}; {by}")

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        against: dict[str, Any] = {"source": "both", "against": "base", "of": ("tuned",), "paired": False}
        return [
            Measure("win_rate", "higher", OfSums(row_mean.of, _wins), share=True, **against),
            Measure("score", "higher", row_mean),
            Measure("length", "neither", row_mean),
            Measure("length_correlation", "neither", OfSums(correlation.of, _differences), **against),
        ]

    def _ruled(self, answers: Sequence[str]) -> Floats:
        rule = re.compile(self.pattern or "")
        return np.array([float(rule.search(answer) is not None) for answer in answers])


# Columns: score and length of tuned, then those of base.


def _wins(values: Floats) -> Floats:
    return wins(values[:, 0], values[:, 2])[:, None]


def _differences(values: Floats) -> Floats:
    assert correlation.columns is not None
    return correlation.columns(values[:, :2] - values[:, 2:])


def _judged(judge: str, examples: Sequence[Example], answers: Sequence[str]) -> Floats:
    """The reward of each answer to its prompt."""
    from dataclasses import replace

    from ..data.judge import rewards_of

    said = [
        replace(example, parts={"prompt": prompt_turns(example), "completion": (Turn("assistant", answer),)})
        for example, answer in zip(examples, answers, strict=True)
    ]
    return rewards_of(judge, said)
