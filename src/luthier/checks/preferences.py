"""Which of two answers the model finds likelier: how often the chosen one, by sums and by token, and what length does.

accuracy compares log-probabilities of whole answers, accuracy_per_token their means a token; a tie counts half.
reward_accuracy and reward_margin (nats) compare log-ratios to base: what this run's training prefers, as DPO's implicit
reward without its beta. length_correlation is Pearson's, of the margin by sums and the difference in tokens: 0 says
that length does not decide. Accuracies 0 to 1, higher is better. Source: Rafailov et al. 2023 (arXiv:2305.18290),
section 4; length: Singhal et al. 2023 (arXiv:2310.03716). Errors: DataError without items, or for rows without pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example
from ..data.parts import pair_of
from ..functional.pair_statistics import correlation, wins
from ..functional.statistics import OfSums, row_mean

__all__ = ["Preferences"]


class Preferences(Check):
    """Reads pairs of the test split, or of `on`, and asks for both answers' log-probabilities."""

    example: ClassVar[Mapping[str, Any]] = {"limit": 200}
    tasks: ClassVar[frozenset[str]] = frozenset({"causal_lm"})
    needs: ClassVar[frozenset[str]] = frozenset({"chosen"})
    on: str | None = Field(None, description="a file of pairs; default: the recipe's own test rows")
    limit: int | None = Field(None, gt=0, description="at most so many pairs, chosen by their ids")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        rows = context.read(self.on) if self.on is not None else test
        pairs = [example for example in rows if "chosen" in example.parts and "rejected" in example.parts]
        if not pairs:
            raise DataError(
                f"none of the {len(rows)} rows is a pair",
                where=self.on or "data.test",
                expected="rows with a prompt, a chosen and a rejected answer",
                remedy="name a file of pairs in checks: preferences: on",
            )
        return context.choose(pairs, self.limit)

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        found = np.stack(subject.answers([_pair(example) for example in examples], ("chosen", "rejected")))
        sums, tokens = found[..., 0], found[..., 1]
        means = sums / tokens
        longer = wins(tokens[:, 0], tokens[:, 1])
        values = {
            "accuracy": wins(sums[:, 0], sums[:, 1])[:, None],
            "accuracy_per_token": wins(means[:, 0], means[:, 1])[:, None],
            "margin": np.stack([sums[:, 0] - sums[:, 1], tokens[:, 0] - tokens[:, 1]], axis=1),
        }
        note = f"{subject.about}; the chosen answer is the longer one in {longer.mean():.1%} of the pairs"
        return context.scores(examples, values, note=note)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        against: dict[str, Any] = {"source": "margin", "against": "base", "of": ("tuned",), "paired": False}
        return [
            Measure("accuracy", "higher", row_mean, share=True),
            Measure("accuracy_per_token", "higher", row_mean, share=True),
            Measure("reward_accuracy", "higher", OfSums(row_mean.of, _reward_wins), share=True, **against),
            Measure("reward_margin", "higher", OfSums(row_mean.of, _reward_margin), **against),
            Measure("length_correlation", "neither", correlation, source="margin"),
        ]


def _pair(example: Example) -> Example:
    """The example with the two answers that are compared, which of a ranking are not always the first two."""
    better, worse = pair_of(example)
    parts = {"chosen": example.parts[better], "rejected": example.parts[worse]}
    return replace(example, parts={**example.parts, **parts})


# Columns: margin and difference in tokens of the subject, then those of base.


def _reward_margin(values: Any) -> Any:
    return values[:, :1] - values[:, 2:3]


def _reward_wins(values: Any) -> Any:
    return wins(values[:, 0], values[:, 2])[:, None]
