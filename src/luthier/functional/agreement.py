"""How far reviewers agree beyond chance: Cohen's kappa, Fleiss' kappa, Krippendorff's alpha, all for named values.

Units are rows, values are what reviewers said of them. 1 is full agreement, 0 what chance would give, below it less.
Where nobody ever said two different things, chance agreement is 1 and no coefficient is defined: the result is NaN.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

__all__ = ["cohen", "fleiss", "krippendorff"]

Value = Hashable


def cohen(first: Sequence[Value], second: Sequence[Value]) -> float:
    """Kappa of two reviewers on the same units, in the same order. Source: Cohen 1960.

    Errors: ValueError for sequences that are empty or of different lengths.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} values are no pairs")
    seen = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    one, other = Counter(first), Counter(second)
    by_chance = sum(one[value] * other[value] for value in one) / len(first) ** 2
    return _beyond(seen, by_chance)


def fleiss(units: Sequence[Sequence[Value]]) -> float:
    """Kappa of units that were valued equally often, by whomever. Source: Fleiss 1971.

    units: the values of each unit. Errors: ValueError where units have fewer than two values or differ in number.
    """
    sizes = {len(values) for values in units}
    if len(sizes) != 1 or min(sizes) < 2:
        raise ValueError(f"units have {sorted(sizes)} values: two or more are needed, equally many of each")
    (size,) = sizes
    seen = sum(_pairs(Counter(values)) for values in units) / (len(units) * size * (size - 1))
    total = Counter(value for values in units for value in values)
    by_chance = sum(count**2 for count in total.values()) / (len(units) * size) ** 2
    return _beyond(seen, by_chance)


def krippendorff(units: Sequence[Sequence[Value]]) -> float:
    """Alpha of units with any number of values; those with a single one say nothing. NaN where none has two.

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section D (nominal data).
    """
    paired = [values for values in units if len(values) > 1]
    total = Counter(value for values in paired for value in values)
    count = total.total()
    if not count:
        return math.nan
    seen = sum(_pairs(Counter(values)) / (len(values) - 1) for values in paired) / count
    return _beyond(seen, _pairs(total) / (count * (count - 1)))


def _pairs(counts: Mapping[Value, int]) -> int:
    """Ordered pairs of equal values."""
    return sum(count * (count - 1) for count in counts.values())


def _beyond(seen: float, by_chance: float) -> float:
    return math.nan if by_chance == 1 else (seen - by_chance) / (1 - by_chance)
