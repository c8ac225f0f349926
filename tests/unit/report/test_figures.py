"""Figures: positions worked out by hand, numpy as the reference for the running mean."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from luthier.report.figures import Mark, Series, bar, chart, heat, intervals, smoothed, ticks


def elements(svg: str, tag: str, kind: str = "") -> list[ET.Element]:
    """Elements of a class; parsing fails on anything that is not well-formed."""
    return [item for item in ET.fromstring(svg).iter(tag) if kind in item.get("class", "").split() or not kind]


def test_interval_positions_are_linear_in_the_values():
    marks = [Mark("base", 10, 5, 15, "base"), Mark("tuned", 20, 18, 25, "tuned")]
    svg = intervals(marks)
    # The axis is 5 to 25 with 8 % (1.6) to spare on both sides, drawn from 9 to 211.
    at = lambda value: 9 + 202 * (value - 3.4) / 23.2  # noqa: E731
    dots = [float(dot.get("cx")) for dot in elements(svg, "circle")]
    assert dots == pytest.approx([at(10), at(20)], abs=0.05)
    whiskers = [line for line in elements(svg, "line", "whisker") if line.get("y1") == line.get("y2")]
    ends = [(float(line.get("x1")), float(line.get("x2"))) for line in whiskers]
    assert ends == [pytest.approx((at(5), at(15)), abs=0.06), pytest.approx((at(18), at(25)), abs=0.06)]


def test_the_axis_of_a_share_stays_within_0_and_1():
    svg = intervals([Mark("tuned", 0.99, 0.97, 1.0, "tuned"), Mark("base", 0.01, 0.0, 0.02, "base")])
    assert [item.text for item in elements(svg, "text")] == ["0", "0.5", "1"]


def test_intervals_leave_undefined_values_out():
    assert intervals([Mark("tuned", float("nan"), None, None, "tuned")]) == ""
    assert (
        len(elements(intervals([Mark("a", float("nan"), 0, 1, "base"), Mark("b", 2, None, None, "tuned")]), "circle"))
        == 1
    )


def test_a_mark_without_bounds_has_no_whisker():
    assert elements(intervals([Mark("tuned", 3, None, None, "tuned")]), "line", "whisker") == []


def test_ticks_by_hand():
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.242, 0.949, 3) == [0.5]
    assert ticks(0, 1e-3, 4) == [0, 0.0005, 0.001]
    assert ticks(3, 3, 5) == [3]


def test_every_interval_axis_names_two_places():
    for low, high in [(0.242, 0.949), (14.2, 14.21), (1e-7, 3e-6), (-3, 5)]:
        svg = intervals([Mark("tuned", low, None, None, "tuned"), Mark("base", high, None, None, "base")])
        assert len({item.text for item in elements(svg, "text")}) >= 2


@pytest.mark.parametrize("span", [3, 7])
def test_the_running_mean_is_numpys_in_the_middle(span: int):
    values = np.random.default_rng(0).normal(size=50)
    out = smoothed([(float(i), float(v)) for i, v in enumerate(values)], span)
    half = span // 2
    reference = np.convolve(values, np.ones(span) / span, "valid")
    np.testing.assert_allclose([v for _, v in out][half:-half], reference, rtol=0, atol=1e-13)
    assert out[0][1] == pytest.approx(values[0], abs=1e-13)
    assert out[-1][1] == pytest.approx(values[-half - 1 :].mean(), abs=1e-13)


def test_a_chart_of_many_points_is_small_and_keeps_its_spike():
    points = [(float(step), 1.0 if step != 31_415 else 5.0) for step in range(100_000)]
    svg = chart([Series("loss", points, "line")], title="loss")
    assert len(svg) < 12_000
    line = elements(svg, "polyline")[0].get("points").split()
    heights = [float(point.split(",")[1]) for point in line]
    assert heights.count(min(heights)) == 1
    assert float(line[heights.index(min(heights))].split(",")[0]) == pytest.approx(56 + 930 * 31_415 / 99_999, abs=0.06)


def test_a_chart_over_more_than_a_factor_of_ten_is_logarithmic():
    svg = chart([Series("loss", [(0, 100.0), (1, 10.0), (2, 1.0)], "line")], title="loss")
    heights = [float(p.split(",")[1]) for p in elements(svg, "polyline")[0].get("points").split()]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)
    assert "log scale" in svg


def test_a_chart_over_rows_puts_each_doubling_at_the_same_distance():
    series = [
        Series("", [(100, 0.5), (400, 0.6)], "raw"),
        Series("measured", [(100, 0.5), (200, 0.55), (400, 0.6)], "dots"),
    ]
    svg = chart(series, title="accuracy", over="rows")
    places = [float(c.get("cx")) for c in elements(svg, "circle", "validation") if c.find("title") is not None]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.11)
    assert "<title>rows" not in svg
    assert "row 200: 0.550" in svg
    assert "rows 100 to 400" in svg
    assert len(elements(svg, "polyline", "raw")) == 1
    assert len(elements(svg, "line", "raw")) == 0  # what has no name is not in the key


def test_a_raw_spike_neither_sets_the_axis_nor_leaves_the_drawing():
    raw = [(float(i), 1000.0 if i == 3 else 2.0 - i / 20) for i in range(20)]
    svg = chart([Series("raw", raw, "raw"), Series("mean", [(0, 2.0), (19, 1.0)], "line")], title="loss")
    assert "log scale" not in svg
    assert all(29 <= float(p.split(",")[1]) <= 251 for p in elements(svg, "polyline", "raw")[0].get("points").split())


def test_charts_of_nothing_of_one_point_and_of_a_constant():
    assert chart([Series("loss", [], "line")], title="loss") == ""
    assert "NaN" not in chart([Series("loss", [(5, 2.0)], "line")], title="loss")
    assert elements(chart([Series("loss", [(1, 0.0), (2, 0.0)], "line")], title="loss"), "polyline")


def test_heat_shades_by_the_share_of_the_row():
    cells = {
        c.find("title").text: c
        for c in elements(heat(["a", "b"], [[3, 1], [0, 8]]), "rect")
        if c.find("title") is not None
    }
    shade = {text: float(cell.get("fill-opacity")) for text, cell in cells.items()}
    assert shade == {
        "wanted a, given a: 3": pytest.approx(0.15 + 0.85 * 0.75, abs=0.005),
        "wanted a, given b: 1": pytest.approx(0.15 + 0.85 * 0.25, abs=0.005),
        "wanted b, given b: 8": 1.0,
    }
    assert cells["wanted a, given b: 1"].get("class") == "wrong"


def test_heat_is_left_out_beyond_a_hundred_classes():
    names = [str(n) for n in range(101)]
    assert heat(names, [[1] * 101] * 101) == ""
    assert len(elements(heat(names[:100], [[1] * 100] * 100), "rect")) == 100 * 100 + 1


def test_names_are_escaped():
    svg = heat(['<script>"&'], [[1]])
    assert "<script" not in svg
    assert elements(svg, "text")[0].text == '<script>"&'
    assert ET.fromstring(intervals([Mark('"><x', 1, None, None, "tuned")])).get("aria-label") == '"><x 1.000'


def test_a_single_removed_row_is_seen_in_the_bar():
    gone = elements(bar(99_999, 1, 100_000), "rect", "gone")[0]
    assert float(gone.get("width")) >= 1.5
    assert float(gone.get("x")) + float(gone.get("width")) <= 200
    assert re.search(r'class="gone"[^>]* width="0"', bar(10, 0, 10))
