"""Which split a row belongs to: a seeded hash of its id, or of its group, so that no other row has a say in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from ..core.errors import DataError, Problem
from ..core.example import Example
from ..core.recipe import Data

__all__ = ["SPLITS", "in_order", "place", "refuse_empty", "shares_of", "split"]

T = TypeVar("T")

SPLITS = ("train", "validation", "test")


def split(examples: Sequence[Example], data: Data, seed: int) -> dict[str, list[Example]]:
    """The examples of train by split, in their order.

    A row's place is a number in [0, 1) from (seed, id), or from (seed, group) with data.split_by; the lowest go to
    test, the next to validation. Rows that are added or taken away later move no other row. Shares are met on average.
    Errors: DataError where a share leaves a split empty.
    """
    shares = shares_of(data)
    result: dict[str, list[Example]] = {name: [] for name in ("train", *shares)}
    for example in examples:
        result[place(example, data.split_by, shares, seed)].append(example)
    refuse_empty(result, data)
    return in_order(result)


def shares_of(data: Data) -> dict[str, float]:
    """The splits that are a share of train, and their shares."""
    return {name: share for name in ("test", "validation") if isinstance(share := getattr(data, name), float)}


def in_order(splits: Mapping[str, T]) -> dict[str, T]:
    """Train first, then validation, then test."""
    return {name: splits[name] for name in SPLITS if name in splits}


def refuse_empty(found: Mapping[str, Sequence[Example]], data: Data) -> None:
    """Errors: DataError where the shares left one of these splits without a row."""
    empty = [name for name, rows in found.items() if not rows]
    if not empty:
        return
    shares = shares_of(data)
    keys = len({_key(example, data.split_by) for rows in found.values() for example in rows})
    raise DataError(
        [
            Problem(
                f"a share of {shares.get(name, 1 - sum(shares.values())):g} of {keys} "
                f"{'rows' if data.split_by is None else f'values of {data.split_by}'} left {name} without a row",
                f"data.{name}",
                remedy="give more rows, a larger share, another seed, or a file of its own",
            )
            for name in in_order(dict.fromkeys(empty))
        ]
    )


def _key(example: Example, split_by: str | None) -> str:
    return example.id if split_by is None else example.groups[split_by]


def place(example: Example, split_by: str | None, shares: Mapping[str, float], seed: int) -> str:
    """The split that a row of train belongs to."""
    if not shares:
        return "train"
    key = _key(example, split_by)
    digest = hashlib.blake2b(f"{seed}\x00{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "big") / 2**64
    edge = 0.0
    for name, share in shares.items():
        edge += share
        if number < edge:
            return name
    return "train"
