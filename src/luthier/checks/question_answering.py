"""Whether the model finds the answers that stand in passages: exact match and F1 of words, 0 to 1, higher is better.

After SQuAD's normalization (lower case, no punctuation and articles); of several reference answers the best counts.
Where questions without an answer occur in training, naming none is right for these (exact and f1 are then 1), and f1 is
told for questions with an answer too, and exact for those without. Means over questions.
Source: Rajpurkar et al. 2016 (arXiv:1606.05250) and 2018 (arXiv:1806.03822). Errors: a DataError without items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.contracts import Floats
from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Sample, Scores, Subject
from ..core.example import Example
from ..functional.statistics import OfSums, row_mean

__all__ = ["QuestionAnswering"]


class QuestionAnswering(Check):
    """Asks for the best answer over all windows of a passage, and compares its text with the references."""

    example: ClassVar[Mapping[str, Any]] = {"limit": 200, "samples": 4}
    tasks: ClassVar[frozenset[str]] = frozenset({"question_answering"})
    limit: int | None = Field(
        None, gt=0, description="at most so many items, chosen by their ids: the same in every run"
    )
    samples: int = Field(12, ge=0, description="items kept with question and answer for the report")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        if not test:
            raise DataError(
                "there are no test items to ask",
                expected="questions with passages in data.test or data.validation",
                remedy="set data.test to a share (0.1) or a path",
            )
        return context.choose(test, self.limit)

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        from ..functional.text_match import exact, token_f1

        facts = context.facts["span"]
        given = [
            _said(example, windows, facts) for example, windows in zip(examples, subject.extract(examples), strict=True)
        ]
        pairs = [(answer, _wanted(example)) for answer, example in zip(given, examples, strict=True)]
        right = np.array([[exact(*pair), token_f1(*pair)] for pair in pairs], dtype=np.float64)
        there = np.array([[float(bool(example.target))] for example in examples])
        values = {
            "exact": right[:, :1],
            "f1": right[:, 1:],
            "answerable": np.concatenate([right[:, 1:] * there, there], axis=1),
            "unanswerable": np.concatenate([right[:, :1] * (1 - there), 1 - there], axis=1),
        }
        shown = {example.id for example in context.choose(examples, self.samples)} if self.samples else set()
        samples = tuple(
            Sample(example.id, _asked(example), wanted[0] or "(none)", answer or "(none)")
            for example, (answer, wanted) in zip(examples, pairs, strict=True)
            if example.id in shown
        )
        return context.scores(examples, values, samples=samples, note=subject.about)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        found = [Measure("exact", "higher", row_mean, binary=True), Measure("f1", "higher", row_mean, share=True)]
        if facts.get("span", {}).get("unanswerable"):
            share = OfSums(_share)
            found += [
                Measure("f1", "higher", share, source="answerable", paired=False, group="answerable"),
                Measure("exact", "higher", share, source="unanswerable", paired=False, group="unanswerable"),
            ]
        return found


def _said(example: Example, windows: Sequence[Floats], facts: Mapping[str, Any]) -> str:
    """The text of the best answer; nothing where none is likelier, in data that have such questions."""
    from ..functional.spans import best_answer

    best = best_answer(windows, facts["longest"])
    if best is None or (facts["unanswerable"] and best.margin < 0):
        return ""
    return str(example.parts["context"])[best.begin : best.end].strip()


def _asked(example: Example) -> str:
    """The question, and the passage below it."""
    return f"{example.parts['question']}\n\n{example.parts['context']}"


def _wanted(example: Example) -> tuple[str, ...]:
    """The reference answers; the empty one where there is none."""
    return (example.target if isinstance(example.target, tuple) else ()) or ("",)


def _share(sums: Floats, rows: Floats) -> Floats:
    return np.asarray(sums[:, 0] / sums[:, 1])
