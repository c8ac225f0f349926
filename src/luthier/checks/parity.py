"""Whether merging, saving and loading again keep the model: the largest difference of log-probabilities to tuned.

Nats; 0 is equality. Over the supervised tokens of the first items for language models, over classes for classifiers,
over the tags of each word for taggers; of models that give numbers these, of question-answering models their logits, of
encoders of texts their vectors.
All subjects are opened in float32, so that what is seen is the conversion and not the rounding of a narrower dtype;
a model exported in bfloat16 differs by that rounding (about 1e-2).
Source: the check is this project's own. Errors: a subject that scores other tokens has an undefined difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.contracts import Floats
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example

__all__ = ["Parity"]

_NO_TOKEN = 1.0
"""Fills the table where a row has no more tokens; no log-probability is positive."""


class Parity(Check):
    """Compares the adapted model in memory with its merged form and with what loads from the exported folder."""

    example: ClassVar[Mapping[str, Any]] = {"rows": 8}
    subjects: ClassVar[tuple[str, ...]] = ("tuned", "merged", "reloaded")
    float32: ClassVar[bool] = True
    rows: int = Field(16, gt=0, description="the first so many items are compared")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        return test[: self.rows]

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        if subject.task == "sequence_classification":
            numbers = subject.classify(examples)
        elif subject.task == "features":
            numbers = subject.embed([example.text() for example in examples])
        else:
            if subject.task == "sequence_score":
                tokens = subject.rewards(examples)
            elif subject.task == "question_answering":
                tokens = [np.concatenate(windows)[:, :2].ravel() for windows in subject.extract(examples)]
            elif subject.task == "token_classification":
                tokens = [x.ravel() for x in subject.tag(examples)]
            else:
                tokens = subject.token_logps(examples)
            width = max((len(values) for values in tokens), default=0)
            numbers = np.full((len(tokens), width), _NO_TOKEN)
            for row, values in enumerate(tokens):
                numbers[row, : len(values)] = values
        return context.scores(examples, {"log_probability": numbers}, note=subject.about)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        return [
            Measure(
                "max_difference",
                "lower",
                _largest_difference,
                source="log_probability",
                against="tuned",
                of=("merged", "reloaded"),
                paired=False,
                interval=False,
            )
        ]


def _largest_difference(values: Floats) -> float:
    """Of [n, 2k]; NaN where a side is not a number, or has columns that the other lacks."""
    own, tuned = np.split(values, 2, axis=1)
    equal = own == tuned  # infinities of one sign are equal, and their difference is not a number
    differences = np.abs(np.where(equal, 0.0, own) - np.where(equal, 0.0, tuned))
    return float(differences.max(initial=0.0))
