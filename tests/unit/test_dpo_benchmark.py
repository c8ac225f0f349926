"""The benchmark of DPO: the pairs that both sides get, what its rows say, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import mean

import pytest

from benchmarks import dpo
from benchmarks._dpo_sides import END, SETTLED, pairs_in_order


def test_the_longest_pairs_come_first_and_the_others_have_the_promised_means() -> None:
    pairs = pairs_in_order(SETTLED + 400)
    settled, timed = pairs[:SETTLED], pairs[SETTLED:]
    longest = max(len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in timed)
    assert {len(pair.prompt) + len(side) for pair in settled for side in (pair.chosen, pair.rejected)} == {longest}
    assert mean(len(pair.prompt) for pair in timed) == pytest.approx(54, rel=0.1)
    assert mean(len(pair.chosen) for pair in timed) == pytest.approx(81, rel=0.1)
    assert all(side[-1] == END for pair in pairs for side in (pair.chosen, pair.rejected))
    assert pairs_in_order(SETTLED + 400) == pairs


def result(rate: float, memory: float, loss: float = math.log(2)) -> dict[str, float]:
    return {
        "pairs_per_s": rate,
        "pairs_per_cpu_s": rate,
        "wall": 10.0,
        "cpu": 10.0,
        "threads": 1,
        "peak_gb": memory,
        "operations_per_s": 1e9 * rate,
        "first_loss": loss,
    }


def test_rates_and_memory_are_ratios_with_their_floors() -> None:
    turns = [{"ours": result(5, 3), "other": result(1, 6)}, {"ours": result(6, 3), "other": result(2, 6)}]
    processor, wall, memory, share = dpo.rows_of("x", turns, 1e10, 4.0, 1.5)
    assert (processor.value, processor.low, processor.high, processor.holds) == (4.0, 3.0, 5.0, True)
    assert wall.name == "x: pairs/s"
    assert (memory.value, memory.floor, memory.holds) == (2.0, 1.5, True)
    assert share.value == pytest.approx(0.55)


def test_every_way_is_measured_over_the_same_pairs_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(side: str, model: Path, *, pairs: int, way: dpo.Way, alike: bool) -> dict[str, float]:
        asked.append((side, way.micro_tokens, pairs, alike))
        return result(1, 1, loss=0.9 if way.micro_tokens == 7 else math.log(2))

    monkeypatch.setattr(dpo, "measure", measured)
    ways = {"ours": dpo.Way(16), "other": dpo.Way(64), "small": dpo.Way(16, micro_tokens=512)}
    turns = dpo.compare(Path(), pairs=32, turns=2, ways=ways, alike=True)
    order = [("ours", None), ("other", None), ("ours", 512)]
    assert asked == [(*one, 192, True) for one in (*order, *order[::-1])]
    assert [set(turn) for turn in turns] == [set(ways)] * 2
    with pytest.raises(SystemExit, match="first loss of small"):
        dpo.compare(Path(), pairs=32, turns=1, ways=ways | {"small": dpo.Way(16, micro_tokens=7)}, alike=True)


def test_a_side_that_does_other_work_is_refused() -> None:
    dpo.refuse_unlike("ours", result(1, 1))
    with pytest.raises(SystemExit, match="not ln 2"):
        dpo.refuse_unlike("other", result(1, 1, loss=0.9))


def test_the_peers_fastest_way_is_found_beyond_slower_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rates = {1: 1.0, 2: 1.2, 4: 0.8, 8: 0.9, 16: 0.7}

    def measure(side: str, model: Path, *, pairs: int, way: dpo.Way, alike: bool) -> dict[str, float]:
        assert (side, alike, pairs) == ("other", True, dpo.PAIRS)
        return {"pairs_per_cpu_s": rates[way.batch] + 0.1 * way.precompute - 0.1 * way.autocast, "peak_gb": 1.0}

    monkeypatch.setattr(dpo, "measure", measure)
    assert dpo.best_way(tmp_path) == dpo.Way(2, autocast=False, precompute=True)
