"""What a fit draws at random: the seed of each step, noise on embeddings, and whether a step draws anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..core.contracts import Models, Objective, Row
from ..functional.packing import pack

__all__ = ["draws", "embedding_noise", "seed_of"]


@torch.no_grad()
def draws(objective: Objective, models: Models, row: Row) -> bool:
    """Whether the loss takes random numbers (dropout, noise), seen at one row with the model as it is: in training."""
    device = next(models.policy.model.parameters()).device
    before = torch.get_rng_state()
    objective.loss(models, pack([row]).to(device))
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    return not torch.equal(before, after)


def seed_of(seed: int, step: int) -> int:
    """A 63-bit seed for one step, far apart for neighboring steps (splitmix64's mixing, Steele et al. 2014)."""
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1


@contextmanager
def embedding_noise(role: Any, alpha: float) -> Iterator[None]:
    """NEFTune's noise on the policy's embeddings while it trains (Jain et al. 2023)."""
    if not alpha:
        yield
        return
    role.embedding_noise = alpha
    try:
        yield
    finally:
        role.embedding_noise = 0.0
