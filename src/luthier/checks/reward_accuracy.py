"""How often a reward model puts the better answer first, and whether it goes by length.

accuracy: of pairs, how often chosen gets the higher reward; of rankings, of all pairs in one that are not tied; a tie
of rewards counts half; of labeled answers the chance that a good one has a higher reward than a bad one (area under the
curve). margin: mean difference of the best and the worst answer, in rewards. correlation (ratings): Pearson's, of
reward and rating. length_correlation: Pearson's, of rewards (pairs: their difference) and lengths in characters.
Source: Lambert et al. 2024, RewardBench (arXiv:2403.13787); length: Singhal et al. 2023 (arXiv:2310.03716). Errors:
DataError without items, or for rows of another kind than the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.contracts import Floats
from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example
from ..functional.pair_statistics import area_under_curve, correlation, wins
from ..functional.statistics import row_mean

__all__ = ["RewardAccuracy"]


class RewardAccuracy(Check):
    """Asks a reward model for the rewards of the test rows' answers."""

    example: ClassVar[Mapping[str, Any]] = {"limit": 200}
    tasks: ClassVar[frozenset[str]] = frozenset({"sequence_score"})
    needs: ClassVar[frozenset[str]] = frozenset({"chosen", "completion"})
    limit: int | None = Field(None, gt=0, description="at most so many rows, chosen by their ids")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        if not test:
            raise DataError(
                "there are no test items to give rewards to",
                expected="rows like the training rows in data.test or data.validation",
                remedy="set data.test to a share (0.1) or a path",
            )
        return context.choose(test, self.limit)

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        rewards = subject.rewards(examples)
        if context.facts["kind"] in ("pairs", "rankings"):
            rows = [_compared(example, given) for example, given in zip(examples, rewards, strict=True)]
            table = np.array(rows, dtype=np.float64)
            values = {"accuracy": table[:, :1], "margin": table[:, 1:2], "length": table[:, 1:]}
            return context.scores(examples, values, note=subject.about)
        given = np.array([values[0] for values in rewards])
        lengths = [float(_length(example, "completion")) for example in examples]
        beside = {"worth": np.array([_worth(example) for example in examples]), "length": np.array(lengths)}
        both = {name: np.stack([given, values], axis=1) for name, values in beside.items()}
        return context.scores(examples, both, note=subject.about)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        length = Measure("length_correlation", "neither", correlation, source="length")
        compared = [Measure("accuracy", "higher", row_mean, share=True), Measure("margin", "higher", row_mean)]
        rated = Measure("correlation", "higher", correlation, source="worth")
        of_kind = {
            "pairs": compared,
            "rankings": compared,
            "labels": [Measure("accuracy", "higher", area_under_curve, source="worth")],
            "ratings": [rated],
        }
        return [*of_kind.get(facts.get("kind", ""), [*compared, rated]), length]


def _compared(example: Example, rewards: Floats) -> tuple[float, float, float]:
    """How often the better of two answers has the higher reward; best less worst, in rewards and in characters."""
    names = [name for name in example.parts if name == "chosen" or name.startswith("rejected")]
    scores = [float(score) for score in example.target] if isinstance(example.target, tuple) else [1.0, 0.0]
    untied = [(i, j) for i, j in combinations(range(len(names)), 2) if scores[i] > scores[j]]
    right = wins(rewards[[i for i, _ in untied]], rewards[[j for _, j in untied]])
    longer = _length(example, names[0]) - _length(example, names[-1])
    return float(right.mean()), float(rewards[0] - rewards[-1]), float(longer)


def _worth(example: Example) -> float:
    """1 or 0 for good or bad, or the rating."""
    return float(example.target == "good") if example.target in ("good", "bad") else float(str(example.target))


def _length(example: Example, name: str) -> int:
    """Characters of an answer."""
    turns = example.parts[name]
    return len(turns) if isinstance(turns, str) else sum(len(turn.content) for turn in turns)
