"""Shapes of learning-rate schedules as functions of the step, counted from 0."""

from __future__ import annotations

__all__ = ["after_warmup", "warmup_share"]


def warmup_share(step: int, total: int, warmup: float) -> float:
    """Linear rise from 1/w at step 0 to 1 at step w-1, where w = round(warmup * total); then 1. Goyal et al. 2017."""
    steps = round(warmup * total)
    return 1.0 if step >= steps else (step + 1) / steps


def after_warmup(step: int, total: int, warmup: float) -> float:
    """How far the steps after the warmup are done: 0 at the first of them, 1 at the last step."""
    steps = round(warmup * total)
    return min(1.0, max(0, step - steps) / max(1, total - 1 - steps))
