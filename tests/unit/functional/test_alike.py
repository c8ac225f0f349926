"""Texts of like lengths put together: of all cuts of their order the cheapest, against all of them tried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from luthier.functional.alike import alike


def spent(groups: list[list[int]], first: list[int], second: list[int], counts: list[int], cost: int) -> int:
    """Padded tokens of groups, and what each costs by itself."""
    return sum(
        len(group) * max(first[item] for item in group)
        + sum(counts[item] for item in group) * max(second[item] for item in group)
        + cost
        for group in groups
    )


def found(first: list[int], second: list[int], counts: list[int], cost: int) -> list[list[int]]:
    return [group.tolist() for group in alike(*(np.array(one) for one in (first, second, counts)), cost)]


@pytest.mark.parametrize("seed", range(6))
def test_no_other_cut_is_cheaper(seed: int) -> None:
    draw = np.random.default_rng(seed)
    first, second, counts = (draw.integers(1, high, 7).tolist() for high in (60, 40, 4))
    order = sorted(range(7), key=lambda item: (first[item], second[item]))
    cuts = itertools.chain.from_iterable(itertools.combinations(range(1, 7), size) for size in range(7))
    ways = [[order[low:high] for low, high in itertools.pairwise([0, *cut, 7])] for cut in cuts]
    cost = int(draw.integers(0, 80))
    best = min(spent(way, first, second, counts, cost) for way in ways)
    groups = found(first, second, counts, cost)
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(7))
    assert all(group == sorted(group) for group in groups)
    assert spent(groups, first, second, counts, cost) == best


def test_a_long_text_goes_alone_where_padding_to_it_costs_more_than_a_pass() -> None:
    first, second, counts = [10, 500, 10, 10, 10], [5] * 5, [1] * 5
    assert found(first, second, counts, 256) == [[0, 2, 3, 4], [1]]
    assert found(first, second, counts, 2000) == [[0, 1, 2, 3, 4]]
    assert found([], [], [], 256) == []
