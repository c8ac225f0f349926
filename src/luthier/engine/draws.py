"""What a fit draws at random: the seed of each step, and noise on embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["embedding_noise", "seed_of"]


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
