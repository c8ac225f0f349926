"""Reward model: a number for an answer, from pairs with margins, rankings, ratings, or labels good and bad.

    pairs      -log sigmoid(r_w - r_l - margin)            Bradley-Terry
    rankings   -sum log softmax of each among those below  Plackett-Luce; equal scores are ties, after Breslow
    ratings    (r - rating)^2
    labels     -log sigmoid(r) for good answers, -log sigmoid(-r) for bad ones

The number is that of a classification head with one class, read at the answer's stop token. The loss is a mean over
rows. All rows of a phase are of one kind. Source: Ouyang et al. 2022 (arXiv:2203.02155), eq. 1; margins: Touvron et al.
2023 (arXiv:2307.09288), eq. 2; Plackett 1975, Luce 1959; labels: Cobbe et al. 2021 (arXiv:2110.14168); center:
Eisenstein et al. 2023 (arXiv:2312.09244). Errors: DataError for rows of several kinds, or without what they need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.errors import DataError
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Reward"]


class Reward(Objective):
    """Learns which answer is the better one. Reported: rewards, their margin, how often it is above 0 (of rankings: of
    the first and the last answer), and lengths in tokens; of single answers their rewards.
    """

    example: ClassVar[dict[str, Any]] = {"margins": False, "center": 0.1}
    needs: ClassVar[frozenset[str]] = frozenset({"chosen", "completion"})
    task: ClassVar[Task] = "sequence_score"
    margins: bool = Field(True, description="a pair's margin, where it has one, is what its rewards are to differ by")
    center: float = Field(
        0.01,
        ge=0,
        description="weight of the mean squared reward: pairs and rankings leave the level of rewards open, this holds "
        "it at 0; ratings and labels tell it",
    )

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """kind of the rows; classes: the head's single one."""
        kinds = {_kind(example): example for example in reversed(examples)}
        if len(kinds) > 1:
            first, second = sorted(kinds)[:2]
            raise DataError(
                f"some rows hold {first} and some {second}",
                where=str(kinds[second].origin),
                expected="rows of one kind in a phase: rewards of two kinds have no common scale",
                remedy="train on each kind in a phase of its own",
            )
        return {"kind": next(iter(kinds), ""), "classes": ["reward"], "multi_label": False}

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        other = [example for example in held_out if _kind(example) != facts["kind"]]
        if other:
            raise DataError(
                f"{len(other)} of {len(held_out)} rows to measure on hold {_kind(other[0])}, the first is "
                f"'{other[0].id}'",
                where=str(other[0].origin),
                expected=f"{facts['kind']}, as the training rows do",
                remedy="leave them out, or measure on rows like the training rows",
            )

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        kind = _kind(example)
        if kind != encoder.facts["kind"]:
            raise DataError(
                f"the row '{example.id}' holds {kind}",
                where=str(example.origin),
                expected=f"{encoder.facts['kind']}, as the training rows do",
                remedy="leave it out, or measure on rows like the training rows",
            )
        return [replace(row, fields=_wanted(example, kind)) for row in encoder.answers(example, _answers(example))]

    def complete(self, rows: Sequence[Row], seed: int) -> list[Row]:
        """Rankings with as many levels as the longest has, NaN where there is no answer."""
        most = max((len(row.branches) for row in rows), default=0)
        return [_filled(row, most) for row in rows]

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"reward": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        import torch

        from ..functional.branches import branch_counts, branch_grid
        from ..functional.preferences import bradley_terry, pair_figures, plackett_luce

        logits = models.policy.class_logits(batch)[:, 0]
        rewards, there = branch_grid(logits.to(torch.promote_types(logits.dtype, torch.float32)), batch)
        fields = batch.fields
        if "margin" in fields:
            losses = bradley_terry(rewards[:, 0] - rewards[:, 1], fields["margin"] if self.margins else 0.0)
        elif "levels" in fields:
            losses = plackett_luce(rewards, fields["levels"][:, : rewards.shape[1]])
        elif "rating" in fields:
            losses = (rewards[:, 0] - fields["rating"]).square()
        else:
            losses = bradley_terry(torch.where(fields["good"], rewards[:, 0], -rewards[:, 0]))
        if rewards.shape[1] > 1:
            losses = losses + self.center * (rewards.square() * there).sum(-1) / there.sum(-1)
            lengths, _ = branch_grid(branch_counts(batch), batch)
            last = there.sum(-1, keepdim=True).long() - 1
            ends = [torch.cat([values[:, :1], values.gather(1, last)], dim=1) for values in (rewards, lengths)]
            figures = pair_figures(ends[0], ends[1], batch.weights)
        else:
            figures = {"reward": rewards[:, 0].detach() * batch.weights}
        return [Term("reward", losses * batch.weights, figures=figures)]


def _kind(example: Example) -> str:
    if "chosen" in example.parts:
        return "rankings" if isinstance(example.target, tuple) else "pairs"
    if example.target in ("good", "bad"):
        return "labels"
    if isinstance(example.target, float) and math.isfinite(example.target):
        return "ratings"
    raise DataError(
        f"the row '{example.id}' says nothing of what its answer is worth",
        where=str(example.origin),
        expected="chosen and rejected answers, or a completion with a label (good or bad) or a number",
        remedy="name the format in data.train: preferences, rankings, ratings or feedback",
    )


def _answers(example: Example) -> tuple[str, ...]:
    """The parts with the answers, the best first."""
    if "chosen" not in example.parts:
        return ("completion",)
    return ("chosen", "rejected", *(name for name in example.parts if name.startswith("rejected_")))


def _wanted(example: Example, kind: str) -> dict[str, NDArray[Any]]:
    """What the row says of its answers' worth."""
    if kind == "rankings":
        assert isinstance(example.target, tuple)
        return {"levels": np.array([float(score) for score in example.target], dtype=np.float32)}
    if kind == "labels":
        return {"good": np.asarray(example.target == "good", dtype=np.bool_)}
    value = example.target if isinstance(example.target, float) else 0.0
    return {"margin" if kind == "pairs" else "rating": np.asarray(value, dtype=np.float32)}


def _filled(row: Row, most: int) -> Row:
    levels = row.fields.get("levels")
    if levels is None:
        return row
    return replace(row, fields={"levels": np.pad(levels, (0, most - len(levels)), constant_values=np.nan)})
