"""The benchmark of near duplicates: exact similarity is what sets say, copies lie on both sides, sides agree."""

from __future__ import annotations

import itertools
import random

import pytest

from benchmarks import _deduplicate_sides, deduplicate
from luthier.functional import minhash


def texts(count: int) -> list[str]:
    draw = random.Random(2)
    return [" ".join(f"w{draw.randint(0, 3000)}" for _ in range(80)) for _ in range(count)]


def test_exact_pairs_are_those_of_plain_sets() -> None:
    some = deduplicate.planted(texts(30), 20)
    sets = [_deduplicate_sides.shingles(text) for text in some]
    plain = {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i, j in itertools.combinations(range(50), 2)
        if len(sets[i] & sets[j]) >= 0.8 * len(sets[i] | sets[j])
    }
    assert deduplicate.exact_pairs(some, 0.8) == pytest.approx(plain)
    assert 5 < len(plain) < 20  # some copies are below the threshold


@pytest.mark.parametrize("side", ["ours", "datasketch", "rensa"])
def test_every_side_finds_the_pairs(side: str) -> None:
    pytest.importorskip("datasketch" if side == "ours" else side)
    some = deduplicate.planted(texts(40), 30)
    found = set(getattr(_deduplicate_sides, side)(some))
    exact = deduplicate.exact_pairs(some, 0.8)
    assert found <= exact.keys()
    assert len(found) >= len(exact) - 1


def test_signatures_made_in_rust_find_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rensa")
    some = deduplicate.planted(texts(40), 30)
    numpy_alone = _deduplicate_sides.ours(some)
    monkeypatch.setattr(minhash, "signatures", _deduplicate_sides._rust_signatures)
    assert _deduplicate_sides.ours(some) == numpy_alone
    assert numpy_alone


def test_lines_worked_out_by_hand() -> None:
    some = deduplicate.planted(texts(30), 20)
    exact = set(deduplicate.exact_pairs(some, 0.8))
    first = min(exact)
    rows = deduplicate.measured(some, exact - {first}, {"datasketch": exact | {(0, 1)}}, floor=True)
    recall, _, precision, removed = rows
    assert recall.value == pytest.approx(1 - 1 / len(exact))
    assert (recall.other, recall.floor, recall.holds) == (1.0, 0.99, False)
    assert (precision.value, precision.other) == (1.0, pytest.approx(len(exact) / (len(exact) + 1)))
    assert (removed.value, removed.holds) == (1.0, True)
    speed = deduplicate.rates(some, [{"ours": {"cpu": 1.0}, "datasketch": {"cpu": 5.0}, "rensa": {"cpu": 2.0}}], 4.0)
    assert [(row.ours, row.other, row.value, row.floor) for row in speed] == [(50, 10, 5.0, 4.0), (50, 25, 2.0, None)]
