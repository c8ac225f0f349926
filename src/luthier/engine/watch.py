"""Watching validation: the best loss so far, and when patience is at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Watcher"]


@dataclass
class Watcher:
    """Early stopping on the validation loss (Prechelt 1998). patience None: never stops.

    `seen` returns whether the loss is the best so far; `exhausted` says when to stop.
    """

    patience: int | None
    best: float = float("inf")
    best_step: int = -1
    since: int = 0

    def seen(self, step: int, loss: float) -> bool:
        """Takes a validation loss at a step; whether it is the best so far."""
        if loss < self.best:
            self.best, self.best_step, self.since = loss, step, 0
            return True
        self.since += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.since >= self.patience

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)
