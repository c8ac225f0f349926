"""Shares of strata: temperatures, effective numbers, and whole rows that come nearest to shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.functional.shares import (
    apportioned,
    effective_shares,
    given_shares,
    largest_size,
    temperature_shares,
)


def test_temperatures_by_hand() -> None:
    counts = np.array([900, 100])
    assert temperature_shares(counts, 1.0) == pytest.approx([0.9, 0.1])
    assert temperature_shares(counts, 2.0) == pytest.approx([0.75, 0.25])  # roots 30 and 10
    assert temperature_shares(counts, None) == pytest.approx([0.5, 0.5])


def test_the_effective_number_by_hand() -> None:
    # E(1) = 1, E(2) = 1.5 and E(3) = 1.75 at beta 0.5: a stratum's share is n / E(n).
    assert effective_shares(np.array([1, 2, 3]), 0.5) == pytest.approx(
        np.array([1, 2 / 1.5, 3 / 1.75]) / (1 + 2 / 1.5 + 3 / 1.75)
    )
    assert effective_shares(np.array([900, 100]), 0.0) == pytest.approx([0.9, 0.1])
    assert effective_shares(np.array([900, 100]), 1 - 1e-9) == pytest.approx([0.5, 0.5], abs=1e-5)


def test_shares_that_are_not_named_share_the_rest() -> None:
    names, counts = ["a", "b", "c"], np.array([60, 30, 10])
    assert given_shares(names, counts, {"a": 0.2}) == pytest.approx([0.2, 0.6, 0.2])
    assert given_shares(names, counts, {"a": 0.2, "b": 0.2, "c": 0.2}) == pytest.approx([1 / 3] * 3)
    with pytest.raises(ValueError, match=r"1.4 together"):
        given_shares(names, counts, {"a": 0.7, "b": 0.7})


def test_as_many_rows_as_the_shares_allow() -> None:
    assert largest_size(np.array([900, 100]), np.array([0.5, 0.5])) == 200
    assert apportioned(200, np.array([900, 100]), np.array([0.5, 0.5])).tolist() == [100, 100]


def test_a_stratum_that_has_too_few_rows_gives_all_and_the_others_make_up_for_it() -> None:
    taken = apportioned(30, np.array([4, 100, 100]), np.array([1 / 3, 1 / 3, 1 / 3]))
    assert taken.tolist() == [4, 13, 13]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.one_of(st.just(0.0), st.floats(1e-9, 1))), min_size=1, max_size=8).filter(
        lambda some: sum(share for _, share in some) > 0.01
    ),
    st.integers(1, 500),
)
def test_rows_taken_are_there_and_as_many_as_asked(strata: list[tuple[int, float]], size: int) -> None:
    counts = np.array([count for count, _ in strata])
    shares = np.array([share for _, share in strata])
    taken = apportioned(size, counts, shares / shares.sum())
    assert (taken >= 0).all()
    assert (taken <= counts).all()
    assert taken.sum() == min(size, counts[shares > 0].sum())
    assert not taken[shares == 0].any()
