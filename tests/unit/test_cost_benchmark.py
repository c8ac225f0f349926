"""The cost benchmark: slopes and proportional lines worked out by hand, rounds, the drawing; and who runs it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import cost
from benchmarks._cost_plot import draw
from benchmarks.cost import Axis, Shape, filled, make_model, rows_of, slope, timed
from luthier.engine.fit import Fit

ROOT = Path(__file__).parents[2]


def axis(seconds: tuple[tuple[float, ...], ...], limit: float | None = 1.1) -> Axis:
    return Axis("a step", "its tokens", ("one", "two", "four"), (1.0, 2.0, 4.0), seconds, limit)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_slope_is_the_exponent(power: float) -> None:
    amounts = [32.0, 64.0, 500.0]
    assert slope(amounts, [3 * amount**power for amount in amounts]) == pytest.approx(power)


def test_points_stand_beside_proportional_cost_and_growth_beside_its_limit() -> None:
    *points, growth = rows_of(axis(((1.0, 1.0, 4.0), (4.0, 4.0, 4.0), (16.0, 16.0, 16.0))))
    assert [point.ours for point in points] == [1.0, 4.0, 16.0], "medians"
    assert [point.other for point in points] == pytest.approx([2.0, 4.0, 8.0]), "each token costs the mean, 2"
    assert [point.value for point in points] == pytest.approx([2.0, 1.0, 0.5])
    assert (points[0].low, points[0].high) == pytest.approx((0.5, 2.0))
    assert (growth.ours, growth.value) == pytest.approx((2.0, 0.5))
    assert (growth.low, growth.high) == pytest.approx((0.5, 1.0)), "the third round grows by the power 1"
    assert not growth.holds


@pytest.mark.parametrize(("power", "limit", "holds"), [(1.0, 1.1, True), (1.09, 1.1, True), (1.11, 1.1, False)])
def test_growth_up_to_the_limit_holds(power: float, limit: float, holds: bool) -> None:
    grown = axis(((1.0,), (2.0**power,), (4.0**power,)), limit)
    assert rows_of(grown)[-1].holds is holds


def test_a_step_is_filled_to_its_budget() -> None:
    for budget in (256, *cost.BUDGETS):
        lengths = filled(budget)
        assert sum(lengths) == budget
        assert min(lengths) > 0


def test_every_point_is_timed_in_every_round_after_a_round_of_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(Shape("nano", 24, 1, 3, 64))
    clock = iter([100.0, 101.0, 103.0, 110.0, 111.0, 130.0])  # ends of six steps: three rounds of two
    jobs: list[Fit] = []

    def instead(job: Fit) -> None:
        jobs.append(job)
        for _ in job.order or ():
            job.log("step")

    monkeypatch.setattr("luthier.engine.fit.fit", instead)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(clock))
    found = timed(model, [[5, 7], [9]], rounds=2)
    monkeypatch.undo()
    assert [len(row.ids) for row in jobs[0].rows] == [5, 7, 9]
    assert jobs[0].order == [[0, 1], [2]] * 3
    assert found == [(2.0, 1.0), (7.0, 19.0)]


def test_the_drawing_is_well_formed_and_marks_every_point() -> None:
    one = axis(((1.0,), (2.5,), (4.0,)))
    root = ElementTree.fromstring(
        draw([one, Axis("x < y", "GFLOP", ("a", "b"), (3.0, 900.0), ((0.1,), (20.0,)), None)])
    )
    assert len(root.findall(".//{*}circle")) == 5
    assert "x < y" in {text.text for text in root.findall(".//{*}text")}
    spots = [float(circle.attrib["cx"]) for circle in root.findall(".//{*}circle")]
    assert spots[:3] == sorted(spots[:3])
    assert all(0 < spot < 380 for spot in spots)


def test_every_benchmark_is_run_by_make_bench_and_explained_on_the_page() -> None:
    files = {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")} - {"record"}
    listed = re.search(r"^BENCHMARKS := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed
    assert set(listed.group(1).split()) == files
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    introduction = page.partition("<!-- begin")[0]
    assert {name for name in files if f"`{name}`" not in introduction} == set()
    assert {name for name in files if f"python -m benchmarks.{name} " not in introduction} == set()
