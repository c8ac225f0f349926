"""What a fit is given, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from ..core.contracts import Adaptation, Models, Objective, Penalty, Row
from ..core.recipe import Phase
from .own_answers import OwnAnswers
from .rollout import Rollouts
from .room import USUAL_TOKENS

__all__ = ["Fit", "FitResult"]


class _Log(Protocol):
    def __call__(self, event: str, **values: Any) -> None: ...


def _silent(event: str, **values: Any) -> None:
    return None


@dataclass
class Fit:
    """What one fit needs. The policy's model is adapted already, the rows are encoded; folder None: no checkpoints.

    stop: asked after every step; True writes a checkpoint and raises Interrupted. seed: of data order and dropout.
    """

    models: Models
    objective: Objective
    adaptation: Adaptation
    phase: Phase
    rows: Sequence[Row]
    validation: Sequence[Row] = ()
    penalties: Sequence[tuple[Penalty, Any]] = ()
    renewal: Callable[[Row, int], Row] | None = None
    """What gives a row its form for an epoch (Objective.renewal)."""
    rollouts: Rollouts | OwnAnswers | None = None
    """What has the policy answer the rows of an on-policy objective, which are prompts; or some rows anew."""
    folder: Path | None = None
    seed: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    micro_tokens: int = USUAL_TOKENS
    """Tokens in a micro-batch to begin with; one that goes on keeps what it began with, up to `most_tokens`."""
    most_tokens: int | None = None
    learned: Callable[[int], None] = lambda tokens: None
    """Told of each smaller micro-batch that memory running out leads to."""
    log: _Log = _silent
    stop: Callable[[], bool] = lambda: False
    order: Sequence[Sequence[int]] | None = None
    """Row positions of each step, in place of the seeded stream (to replay another program's order)."""


@dataclass(frozen=True)
class FitResult:
    """What came of a fit: steps done, losses of each step made by this process, totals, and why it ended."""

    steps: int
    losses: tuple[float, ...]
    tokens: int
    supervised: int
    seconds: float
    best_step: int | None
    best_loss: float | None
    stopped: str
    micro_tokens: int
    parts: Mapping[str, float]
    """Seconds of all steps by what took them: data, forward, backward, optimizer, rest."""

    @property
    def tokens_per_s(self) -> float:
        """Useful tokens a second over all steps."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def waiting(self) -> float:
        """The share of the steps' seconds that was spent waiting for data."""
        return self.parts.get("data", 0.0) / self.seconds if self.seconds else 0.0
