"""The benchmark's arithmetic, its workload, its exit status, and the page that is written from its rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import _sft, _workload, record
from benchmarks._ours import steps_of
from benchmarks._search import best_size
from benchmarks.record import Measured


def test_rows_have_the_promised_lengths() -> None:
    rows = _workload.examples(96)
    lengths = [len(row.ids) for row in rows]
    assert sum(lengths) / 96 == pytest.approx(135, abs=1)
    assert sum(row.learned for row in rows) / sum(lengths) == pytest.approx(0.6, abs=0.005)
    assert max(lengths) > 2 * 135 > 135 > min(lengths)
    assert all(10 <= token < _workload.VOCABULARY for row in rows for token in row.ids)
    assert _workload.examples(96) == rows


def test_our_steps_hold_every_row_once_in_order_and_within_the_budget() -> None:
    rows = _workload.examples(40)
    steps = steps_of(rows, 1024)
    assert [position for step in steps for position in step] == list(range(40))
    assert len(steps[0]) == _workload.WARM
    assert all(sum(len(rows[position].ids) for position in step) <= 1024 for step in steps[1:])
    assert len(steps) > 3


@pytest.mark.parametrize("count", [40, 48, 72, 96])
def test_the_longest_rows_come_before_the_clock_begins(count: int) -> None:
    rows = _workload.rows_in_order(count)
    lengths = [len(row.ids) for row in rows]
    assert len(rows) == count
    assert set(lengths[: _workload.SETTLED]) == {max(lengths)}
    for begin in (_workload.SETTLED, 2 * _workload.SETTLED):  # where clocks begin, and their rows' mean is the same
        timed = rows[begin:]
        tokens = sum(len(row.ids) for row in timed)
        assert tokens / len(timed) == pytest.approx(135, abs=0.5)
        assert sum(row.learned for row in timed) / tokens == pytest.approx(0.6, abs=0.005)


@pytest.mark.parametrize("batch", [4, 8, 16, 32])
def test_no_timed_batch_is_wider_than_one_before_the_clock(batch: int) -> None:
    lengths = [len(row.ids) for row in _workload.rows_in_order(max(_sft.ROWS, 3 * batch))]
    widths = [max(lengths[low : low + batch]) for low in range(0, len(lengths), batch)]
    assert widths[0] == max(widths)
    ours = [sum(lengths[row] for row in step) for step in steps_of(_workload.rows_in_order(_sft.ROWS), 4096)]
    assert len(ours) == 4  # two settle, two are timed
    assert ours[1] > 0.9 * max(ours)


@pytest.mark.parametrize(("best", "tried"), [(8, [8, 16, 4]), (64, [8, 16, 32, 64, 128]), (1, [8, 16, 4, 2, 1])])
def test_the_best_size_is_never_at_the_edge_of_what_was_tried(best: int, tried: list[int]) -> None:
    seen: list[int] = []

    def seconds(size: int) -> float:
        seen.append(size)
        return abs(size - best)

    assert best_size(8, seconds, lambda size: True) == best
    assert seen == tried
    assert best_size(8, seconds, lambda size: size <= 16) == min(best, 16)


def trial(rate: float, memory: float) -> dict[str, float]:
    return {"tokens_per_cpu_s": rate, "peak_gb": memory}


@pytest.mark.parametrize(
    ("free", "found"),
    [
        (100.0, _sft.Way(32, autocast=False)),
        (20.0, _sft.Way(16, autocast=False)),  # the double of 16 would take 24 GB
        (10.0, _sft.Way(8, autocast=False)),
    ],
)
def test_the_peer_gets_its_fastest_way_that_memory_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, found: _sft.Way
) -> None:
    tried: list[tuple[_sft.Way, int]] = []

    def measure(side: str, model: Path, *, kind: str, rows: int, way: _sft.Way, alike: bool) -> dict[str, float]:
        assert (side, alike) == ("other", True)
        tried.append((way, rows))
        return trial({4: 90, 8: 100, 16: 120, 32: 130, 64: 110}[way.batch] - 50 * way.autocast, way.batch * 0.75)

    monkeypatch.setattr(_sft, "measure", measure)
    monkeypatch.setattr(_sft.psutil, "virtual_memory", lambda: SimpleNamespace(available=free * 1e9))
    assert _sft.best_way(tmp_path, "lora") == found
    assert len({way for way, _ in tried}) == len(tried)
    assert [way for way, _ in tried][:2] == [_sft.Way(8), _sft.Way(8, autocast=False)]
    assert all(rows >= _workload.SETTLED + way.batch for way, rows in tried)


def test_operations_worked_out_by_hand() -> None:
    # 4 * 10 * 3 for the body, 4 * 49152 * 576 * 2 for two learned tokens.
    assert _workload.work("lora", 10, 3, 2) == 120 + 226_492_416
    assert _workload.work("full", 10, 3, 2) == 180 + 339_738_624


def test_the_clock_begins_once_memory_has_been_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    times, processor = iter([100.0, 102.0, 106.0, 108.0]), iter([10.0, 13.0, 20.0, 22.0])
    monkeypatch.setattr(_workload.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(_workload.time, "process_time", lambda: next(processor))
    clock = _workload.Clock()
    for rows, loss in ((8, 3.0), (8, 2.0), (1, 1.0), (1, 0.5)):
        clock.step(rows, loss)
    rows = [_workload.Example((1,) * 500, 400)] * 16
    rows += [_workload.Example((1,) * 30, 10), _workload.Example((1,) * 60, 20)]
    found = clock.result("lora", rows, 10, "float32")
    assert found["tokens_per_s"] == 90 / 6
    assert (found["tokens_per_cpu_s"], found["wall"], found["cpu"]) == (90 / 9, 6.0, 9.0)
    assert found["operations_per_s"] == _workload.work("lora", 10, 90, 30) / 6
    assert found["first_loss"] == 3.0


@pytest.mark.parametrize("steps", [[], [8], [8, 8], [40], [32, 32]])
def test_no_step_after_the_settled_rows_and_two_steps_is_no_measurement(steps: list[int]) -> None:
    clock = _workload.Clock()
    for rows in steps:
        clock.step(rows, 1.0)
    with pytest.raises(ValueError, match="none is left after the first 16 rows"):
        clock.result("lora", [], 1, "float32")


def side(rate: float, memory: float, waited: float = 0.0) -> dict[str, float]:
    times = {"wall": 10 + waited, "cpu": 20.0, "threads": 2}
    rates = {"tokens_per_s": rate, "tokens_per_cpu_s": rate / 2, "operations_per_s": rate * 1e9}
    return {**times, **rates, "peak_gb": memory}


def test_ratios_are_of_pairs_with_their_spread() -> None:
    pairs = [
        {"ours": side(400, 3.0), "other": side(100, 6.0)},
        {"ours": side(300, 3.0), "other": side(150, 6.0)},
        {"ours": side(450, 3.0), "other": side(150, 9.0)},
    ]
    processor, rate, memory, share = _sft.rows_of("x", pairs, 1e12, faster=3.5)
    assert (rate.ours, rate.other, rate.value, rate.low, rate.high) == (400, 150, 3.0, 2.0, 4.0)
    assert (processor.ours, processor.other, processor.value) == (200, 75, 3.0)
    assert (processor.floor, rate.floor) == (3.5, 3.5)
    assert (memory.value, memory.low, memory.high) == (2.0, 2.0, 3.0)
    assert (share.value, share.other, share.floor) == (0.4, 0.15, None)


def test_wall_time_says_nothing_where_a_training_was_kept_waiting() -> None:
    pairs = [{"ours": side(400, 3.0), "other": side(100, 6.0, waited=5.0)}]
    names = [row.name for row in _sft.rows_of("x", pairs, 1e12)]
    assert "x: useful tokens per processor second" in names
    assert "x: useful tokens/s" not in names


@pytest.mark.parametrize(("value", "holds"), [(1.0, True), (0.99, False), (float("nan"), False)])
def test_a_row_holds_from_its_floor_on(value: float, holds: bool) -> None:
    assert Measured("x", 1.0, 1.0, value, floor=1.0).holds is holds
    assert Measured("x", 1.0, 1.0, value).holds


def test_the_exit_status_and_the_file_tell_what_fell_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out" / "b.json"
    assert record.finish([Measured("fast", 2.0, 1.0, 2.0, 1.5, 2.5, 1.0)], file) == 0
    assert record.finish([Measured("slow", 1.0, 2.0, 0.5, floor=1.0), Measured("told", 1.0, None, 1.0)], file) == 1
    assert "falls short of its floor: slow" in capsys.readouterr().err
    rows = json.loads(file.read_text())
    names = ["name", "ours", "other", "value", "low", "high", "floor", "holds", "measured"]
    assert [list(row) for row in rows] == [names, names]
    assert [row["holds"] for row in rows] == [False, True]
    assert rows[0]["measured"]["versions"]["torch"].startswith("2.")


def test_the_page_is_updated_in_place(tmp_path: Path) -> None:
    page, one, two = tmp_path / "docs" / "benchmarks.md", tmp_path / "one.json", tmp_path / "two.json"
    record.finish([Measured("a|b: tokens/s", 1234.5, 100.0, 12.345, 12.0, 13.0, 1.0)], one)
    record.finish([Measured("memory", 3.0, 6.0, 2.0, floor=1.0)], two)
    assert record.main([str(one), str(two), "--into", str(page)]) == 0
    page.write_text(page.read_text() + "\nA remark by hand.\n")
    before = page.read_text()
    assert before.startswith("# Benchmarks\n")
    assert "| a\\|b: tokens/s | 1,234 | 100 | 12.35 | 12 | 13 | 1 | yes |" in before
    assert record.main([str(one), "--into", str(page)]) == 0
    assert page.read_text() == before
    record.finish([Measured("a: tokens/s", 1.0, 2.0, 0.5, floor=1.0)], one)
    record.main([str(one), "--into", str(page)])
    after = page.read_text()
    assert "1,234" not in after
    assert "**no**" in after
    assert "A remark by hand." in after
    assert after.index("## one") < after.index("## two")


def test_a_drawing_that_lies_beside_the_page_is_linked(tmp_path: Path) -> None:
    page, file = tmp_path / "docs" / "benchmarks.md", tmp_path / "cost.json"
    record.finish([Measured("a step", 1.0, 1.0, 1.0)], file)
    record.main([str(file), "--into", str(page)])
    assert "images" not in page.read_text()
    (page.parent / "images").mkdir()
    (page.parent / "images" / "cost.svg").write_text("<svg/>")
    record.main([str(file), "--into", str(page)])
    assert page.read_text().count("(images/cost.svg)") == 1
    assert page.read_text().index("(images/cost.svg)") < page.read_text().index("<!-- end cost -->")


def test_a_file_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        record.section("empty", [])


def test_sides_that_do_different_work_are_refused() -> None:
    _sft.refuse_unlike({"ours": {"first_loss": 10.931}, "other": {"first_loss": 10.932}})
    with pytest.raises(SystemExit, match="same rows"):
        _sft.refuse_unlike({"ours": {"first_loss": 10.93}, "other": {"first_loss": 10.83}})


def test_a_side_that_fails_shows_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_sft.SIDES, "ours", "benchmarks._nobody")
    with pytest.raises(SystemExit, match=r"No module named benchmarks\._nobody"):
        _sft.measure("ours", tmp_path, kind="lora", rows=8, way=_sft.Way(8), alike=True)
