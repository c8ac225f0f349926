"""A share of a step's rows with answers that the policy writes as it is then, in place of their own.

What the teacher says of them is asked at once. An answer is a function of the weights, the seed, the step and the row
alone: nothing of it need be kept for a fit that goes on. Source: Agarwal et al. 2024 (GKD, arXiv:2306.13649), algorithm
1, with each row drawn by itself in place of whole batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..core.contracts import Models, Objective, Row
from ..functional.packing import micro_batches, pack
from ..models.generate import generate
from ..models.prompt import text_room
from .precompute import precompute
from .step import StepLoss, measure

__all__ = ["OwnAnswers"]


class OwnAnswers:
    """What gives a fit the rows of its steps, in place of rollouts (engine/rollout.py).

    models: the policy that is trained, and those whom the objective asks. stop: tokens that end an answer. longest: the
    limit of a row, in tokens, or that of a model where it is less; a row that leaves no room for an answer keeps its
    own.
    """

    steps = 1
    passes = 1
    room = 0

    def __init__(
        self,
        objective: Objective,
        models: Models,
        *,
        stop: Collection[int],
        pad: int,
        longest: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.objective, self.models = objective, models
        self.stop, self.pad, self.seed, self.device = stop, pad, seed, device
        limits = [text_room(role.model) for role in (models.policy, *map(models.role, objective.sources()))]
        self.longest = min([longest, *(limit for limit in limits if limit is not None)])
        self.share, self.most = objective.writes
        self.figures: dict[str, float] = {}
        self.memory: dict[str, float] = {}

    def batch_number(self, step: int) -> int:
        """Every step has a batch of its own."""
        return step

    def rows(self, step: int, asked: Callable[[int], Sequence[Row]], micro_tokens: int) -> list[Row]:
        """The rows of a step, some of them answered anew. asked: the rows of a batch."""
        rows = list(asked(step))
        chosen = [place for place, row in enumerate(rows) if self._writes(row, step)]
        answered = self._answered([rows[place] for place in chosen], step)
        told = precompute(
            self.objective,
            self.models.policy,
            answered,
            device=self.device,
            micro_tokens=micro_tokens,
            others={name: self.models.role(name) for name in self.objective.sources()},
        )
        for place, row in zip(chosen, told, strict=True):
            rows[place] = row
        self.figures = {"own_answers": len(chosen) / len(rows)}
        if chosen:
            self.figures["answer_tokens"] = float(np.mean([row.supervised.sum() for row in told]))
        return rows

    def measure(self, rows: Sequence[Row], micro_tokens: int) -> StepLoss:
        """The loss of rows with the answers that they came with."""
        cut = micro_batches(range(len(rows)), [len(row.ids) for row in rows], micro_tokens)
        batches = [pack([rows[index] for index in part]).to(self.device) for part in cut]
        return measure(self.objective, self.models, batches)

    def _writes(self, row: Row, step: int) -> bool:
        if _begin_of_answer(row) + self.most > self.longest:
            return False
        return _drawn(f"{self.seed}:{step}:{row.id}:own") < self.share * 2**63

    def _answered(self, rows: Sequence[Row], step: int) -> list[Row]:
        """The rows up to their last answer, and what the policy answers."""
        said: dict[tuple[int, int], int] = {}

        def hear(logits: Tensor, items: Sequence[int], steps: Sequence[int], tokens: Tensor) -> None:
            for item, at, token in zip(items, steps, tokens.tolist(), strict=True):
                said.setdefault((item, at), token)  # one that has ended may ride along

        begins = [_begin_of_answer(row) for row in rows]
        answers = generate(
            self.models.policy.model,
            [row.ids[:begin].tolist() for row, begin in zip(rows, begins, strict=True)],
            stop=self.stop,
            pad=self.pad,
            max_new_tokens=self.most,
            temperature=1.0,
            seeds=[_drawn(f"{self.seed}:{step}:{row.id}") for row in rows],
            listener=hear,
        )
        found = []
        for item, (row, begin, answer) in enumerate(zip(rows, begins, answers, strict=True)):
            # What ended it is learned too.
            ids = [said[item, at] for at in range(len(answer) + (len(answer) < self.most))]
            supervised = np.arange(begin + len(ids)) >= begin
            fields = {**row.fields, "own": np.ones((), dtype=np.float32)}
            whole = np.concatenate([row.ids[:begin], np.array(ids, dtype=np.int64)])
            found.append(replace(row, ids=whole, supervised=supervised, fields=fields, tokens={}))
        return found


def _begin_of_answer(row: Row) -> int:
    """Where the last run of supervised tokens begins."""
    at = np.flatnonzero(row.supervised)
    breaks = np.flatnonzero(np.diff(at) > 1)
    return int(at[breaks[-1] + 1] if len(breaks) else at[0])


def _drawn(name: str) -> int:
    """A number from 0 to 2^63 - 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
