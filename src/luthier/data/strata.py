"""What rows are counted, balanced and compared by, and a draw of each row that depends on nothing but seed and id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError, nearest
from ..core.example import Example

__all__ = ["NONE", "Strata", "drawn", "stratum"]

NONE = "(none)"
"""The stratum of rows without a class, or without the group."""
_ALWAYS = ("label", "file", "length")


def stratum(example: Example, by: Sequence[str]) -> str:
    """The name of the row's stratum; `by`: label (the target), file, length (in words, by powers of 2), or a group."""
    return ", ".join(_value(example, name) for name in by)


def _value(example: Example, name: str) -> str:
    if name == "label":
        target = example.target
        if target is None:
            return NONE
        return " | ".join(target) if isinstance(target, tuple) else str(target)
    if name == "file":
        return example.origin.file
    if name == "length":
        words = len(example.text().split())
        least = 1 << words.bit_length() - 1 if words else 0
        return f"{least} to {max(2 * least - 1, 0)} words"
    return example.groups.get(name, NONE)


@dataclass(frozen=True)
class Strata:
    """The strata of n rows. names: [s] in the order of first appearance; of_row: [n] numbers; counts: [s] rows."""

    names: list[str]
    of_row: NDArray[np.int32]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[Example], by: Sequence[str], where: str) -> Strata:
        """The rows' strata. Errors: DataError, placed at `where`, where not one row has a class or the group named."""
        numbers: dict[str, int] = {}
        groups: set[str] = set()
        missing = {name for name in by if name not in ("file", "length")}
        found: list[int] = []
        for example in rows:
            found.append(numbers.setdefault(stratum(example, by), len(numbers)))
            groups |= example.groups.keys()
            if missing:
                missing -= {name for name in missing if _value(example, name) != NONE}
        if found and missing:
            raise _absent(sorted(missing)[0], groups, where)
        of_row = np.array(found, np.int32)
        return cls(list(numbers), of_row, np.bincount(of_row, minlength=len(numbers)).astype(np.int64))


def _absent(name: str, groups: Iterable[str], where: str) -> DataError:
    known = [*_ALWAYS, *sorted(groups)]
    near = nearest(name, known)
    return DataError(
        "no row has a label" if name == "label" else f"no row has the group '{name}'",
        where=where,
        expected="one of " + ", ".join(known),
        remedy=f"did you mean '{near}'?" if near not in (None, name) else "name columns to be kept in data.groups",
    )


def drawn(seed: int, name: str) -> float:
    """A number in (0, 1) for the row of this id, evenly spread over ids, whatever other rows there are."""
    digest = hashlib.blake2b(f"{seed}\x00drawn\x00{name}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**56
