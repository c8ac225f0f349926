"""Random draws that depend on a seed and names alone: the same in every process, whatever else was drawn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Draws", "seed_of"]

_T = TypeVar("_T")


def seed_of(seed: int, *names: object) -> int:
    """A number below 2^63 for a seed and names."""
    text = "\x00".join(map(str, (seed, *names)))
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(found, "big") >> 1


class Draws:
    """Draws from a seed. They rest on `Random.random` alone, which Python promises not to change."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uniform(self) -> float:
        """A number from 0 up to 1."""
        return self._random.random()

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(self.uniform() * count)

    def one(self, of: Sequence[_T]) -> _T:
        """One of them."""
        return of[self.below(len(of))]

    def some(self, of: Sequence[_T], count: int) -> list[_T]:
        """So many of them, or all where there are fewer, in their order."""
        chosen = sorted(range(len(of)), key=lambda _: self.uniform())[:count]
        return [of[place] for place in sorted(chosen)]

    def weighted(self, of: Sequence[tuple[_T, float]]) -> _T:
        """One of them, in proportion to its weight."""
        left = self.uniform() * sum(weight for _, weight in of)
        for item, weight in of:
            left -= weight
            if left < 0:
                return item
        return of[-1][0]
