"""Drawings of the report as inline SVG: intervals, curves, bars and a heat map.

Colors and fonts come from the page's style sheet through classes, so that one drawing serves light, dark and print.
Every text that comes from outside is escaped here. Lengths are in SVG units, one CSS pixel at full width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup, escape

from .words import count, number
from .words import interval as bounds_text

__all__ = ["Mark", "Series", "bar", "chart", "heat", "intervals", "smoothed", "ticks"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A measured number with its bounds. kind: which shape and color it gets."""

    label: str
    value: float
    low: float | None
    high: float | None
    kind: Literal["base", "tuned", "other"]


@dataclass(frozen=True)
class Series:
    """Points of a chart. kind: "raw" (faint line), "line" (strong line) or "dots" (marked points)."""

    label: str
    points: Sequence[Point]
    kind: Literal["raw", "line", "dots"]


def intervals(marks: Sequence[Mark], zero: bool = False) -> Markup:
    """Dots with whiskers on one shared axis with round ticks; base is hollow, tuned filled.

    The axis spans the data, so that close values can be told apart; `zero` draws a line at zero.
    """
    finite = [mark for mark in marks if math.isfinite(mark.value)]
    if not finite:
        return Markup("")
    ends = [v for m in finite for v in (m.value, m.low, m.high) if v is not None and math.isfinite(v)]
    if zero:
        ends.append(0.0)
    low, high = min(ends), max(ends)
    spare = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    if low >= 0 and high <= 1:  # a share never leaves 0 to 1, so its axis does not either
        low, high = max(0.0, low - spare), min(1.0, high + spare)
    else:
        low, high = low - spare, high + spare
    width, step = 220.0, 15.0
    height = step * len(finite) + 20
    at = _scale(low, high, 9, width - 9)
    parts = [_line(9, height - 17, width - 9, height - 17, "axis")]
    if zero and low < 0 < high:
        parts.append(_line(at(0), 0, at(0), height - 17, "zero"))
    for index, mark in enumerate(finite):
        parts.append(_mark(mark, at, 8 + step * index))
    for value in next((few for few in (ticks(low, high, 3), ticks(low, high, 5)) if len(few) > 1), [low, high]):
        parts.append(_line(at(value), height - 17, at(value), height - 14, "axis"))
        anchor = "start" if at(value) < 20 else "end" if at(value) > width - 20 else "middle"
        parts.append(_text(at(value), height - 3, f"{value:.6g}", anchor))
    spoken = "; ".join(f"{m.label} {number(m.value)} {bounds_text(m.low, m.high)}".strip() for m in finite)
    return _svg(width, height, parts, "interval", spoken)


def _mark(mark: Mark, at: Callable[[float], float], y: float) -> Markup:
    parts = []
    if mark.low is not None and mark.high is not None and math.isfinite(mark.low) and math.isfinite(mark.high):
        parts.append(_line(at(mark.low), y, at(mark.high), y, f"whisker {mark.kind}"))
        parts.extend(_line(at(end), y - 3, at(end), y + 3, f"whisker {mark.kind}") for end in (mark.low, mark.high))
    parts.append(
        Markup('<circle class="dot {}" cx="{}" cy="{}" r="4.5"/>').format(mark.kind, _f(at(mark.value)), _f(y))
    )
    return Markup("").join(parts)


def chart(
    series: Sequence[Series],
    *,
    title: str,
    width: float = 1000,
    height: float = 280,
    legend: bool = True,
    kind: Literal["", "wide", "narrow"] = "",
    over: Literal["steps", "rows"] = "steps",
) -> Markup:
    """Curves over steps. Where positive values span more than a factor of ten the vertical axis is logarithmic.

    A title, round ticks and, with `legend`, a key above the plot. Nothing without points. kind: shown on wide screens
    only, or on narrow ones only; a drawing that shrinks to a phone's width could not be read. over: what the horizontal
    axis counts; that of rows is logarithmic.
    """
    points = [point for one in series for point in one.points]
    if not points:
        return Markup("")
    shaped = [p[1] for one in series if one.kind != "raw" for p in one.points] or [p[1] for p in points]
    low, high = min(shaped), max(shaped)
    log = low > 0 and high / low > 10
    if not log:
        spare = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
        low, high = (max(0.0, low - spare) if low >= 0 else low - spare), high + spare
    left, right, top, bottom = 56.0, 14.0, 30.0 if legend else 24.0, 30.0
    first, last = min(p[0] for p in points), max(p[0] for p in points)
    along: Callable[[float], float] = math.log10 if over == "rows" else float
    level = _scale(along(first), along(last), left, width - right)

    def x(value: float) -> float:
        return level(along(value))

    shape: Callable[[float], float] = math.log10 if log else float
    flat = _scale(shape(low), shape(high), height - bottom, top)

    def y(value: float) -> float:
        """Values beyond the axis (a raw spike) stop at its edge."""
        return flat(shape(min(max(value, low), high)))

    parts = _grid(low, high, log, y, left, width - right)
    marked = _log_ticks(first, last) if over == "rows" else ticks(first, last, 6 if width > 500 else 4)
    parts.extend(_steps(marked, x, height - bottom, width))
    for one in series:
        points_of = _thin(one.points, 400) if one.kind != "dots" else list(one.points)
        parts.append(_series(points_of, one, x, y, over.removesuffix("s")))
    parts.append(_text(2, 13, title + (" (log scale)" if log else ""), "start", "title"))
    if legend:
        parts.extend(_legend(series, width - right))
    spoken = f"{title} from {number(points[0][1])} to {number(points[-1][1])}, {over} {count(first)} to {count(last)}"
    return _svg(width, height, parts, f"chart {kind}".strip(), spoken)


def _grid(low: float, high: float, log: bool, y: Callable[[float], float], left: float, right: float) -> list[Markup]:
    marks = _log_ticks(low, high) if log else ticks(low, high, 5)
    parts = []
    for value in marks:
        parts.append(_line(left, y(value), right, y(value), "grid"))
        parts.append(_text(left - 6, y(value) + 4, f"{value:.4g}", "end"))
    return parts


def _steps(marked: Sequence[float], x: Callable[[float], float], y: float, width: float) -> list[Markup]:
    parts = []
    for value in marked:
        if value == int(value):
            anchor = "end" if x(value) > width - 30 else "middle"
            parts.append(_line(x(value), y, x(value), y + 4, "axis"))
            parts.append(_text(x(value), y + 17, f"{int(value):,}", anchor))
    return parts


def _series(
    points: list[Point], one: Series, x: Callable[[float], float], y: Callable[[float], float], unit: str
) -> Markup:
    if one.kind == "dots":
        dots = (
            Markup('<circle class="validation" cx="{}" cy="{}" r="4"><title>{} {}: {}</title></circle>').format(
                _f(x(a)), _f(y(b)), unit, count(a), number(b)
            )
            for a, b in points
        )
        path = _path(points, x, y, "validation-line") if len(points) > 1 else Markup("")
        return path + Markup("").join(dots)
    return _path(points, x, y, one.kind)


def _legend(series: Sequence[Series], right: float) -> list[Markup]:
    parts: list[Markup] = []
    for one in reversed([one for one in series if one.points and one.label]):
        parts.append(_text(right, 13, one.label, "end"))
        right -= 6.6 * len(one.label) + 8
        if one.kind == "dots":
            parts.append(Markup('<circle class="validation" cx="{}" cy="9" r="4"/>').format(_f(right - 5)))
        else:
            parts.append(_line(right - 18, 9, right, 9, one.kind))
        right -= 30
    return parts


def bar(kept: float, dropped: float, whole: float) -> Markup:
    """A bar of what a step kept, and what it dropped beside it, both as shares of `whole`."""
    whole = max(whole, 1)
    a, b = 200 * kept / whole, 200 * dropped / whole
    if dropped:
        b = max(b, 1.5)  # a single row of many thousands is still seen
    rects = Markup('<rect class="kept" x="0" y="2" width="{}" height="10"/>').format(_f(a))
    rects += Markup('<rect class="gone" x="{}" y="2" width="{}" height="10"/>').format(_f(min(a, 200 - b)), _f(b))
    return _svg(200, 14, [rects], "bar", f"{count(kept)} kept, {count(dropped)} removed")


def heat(classes: Sequence[str], matrix: Sequence[Sequence[float]], largest: int = 100) -> Markup:
    """A confusion matrix: rows are the wanted classes, columns the given ones, shade is the share of the row.

    Nothing with more than `largest` classes: its cells could not be told apart.
    """
    size = len(classes)
    if not 0 < size <= largest:
        return Markup("")
    labelled = size <= 24
    cell = 26.0 if size <= 12 else 18.0 if labelled else max(5.0, 520 / size)
    margin = 10 + min(6.5 * max(len(name) for name in classes), 150) if labelled else 4.0
    side = margin + cell * size
    parts = [
        Markup('<rect class="field" x="{0}" y="{0}" width="{1}" height="{1}"/>').format(_f(margin), _f(cell * size))
    ]
    for i, row in enumerate(matrix):
        total = sum(row) or 1
        for j, value in enumerate(row):
            if value:
                spot = f'x="{_f(margin + j * cell)}" y="{_f(margin + i * cell)}" width="{_f(cell)}" height="{_f(cell)}"'
                kind = "right" if i == j else "wrong"
                parts.append(
                    Markup(f'<rect class="{kind}" {spot} fill-opacity="{0.15 + 0.85 * value / total:.2f}">')
                    + Markup("<title>wanted {}, given {}: {}</title></rect>").format(
                        classes[i], classes[j], count(value)
                    )
                )
    for i, name in enumerate(classes if labelled else ()):
        middle = margin + (i + 0.5) * cell
        short = name if len(name) <= 22 else name[:21] + "…"
        parts.append(_text(margin - 5, middle + 4, short, "end"))
        turn = Markup('<text transform="translate({},{}) rotate(-90)" text-anchor="start">{}</text>')
        parts.append(turn.format(_f(middle + 4), _f(margin - 5), short))
    return _svg(side + 4, side + 4, parts, "heat", f"confusion of {size} classes")


def smoothed(points: Sequence[Point], span: int) -> list[Point]:
    """The centered running mean over `span` points.

    It begins in the first point, with as many points after as before: a steep start is not flattened. At the end, where
    a curve is flat, it keeps the points before, so that no single noisy step is its last word.
    """
    half = span // 2
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    out = []
    for index, (where, _) in enumerate(points):
        reach = min(half, index)
        a, b = index - reach, min(index + reach + 1, len(points))
        out.append((where, (sums[b] - sums[a]) / (b - a)))
    return out


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within [low, high], about so many."""
    if not high > low:
        return [low]
    raw = (high - low) / max(about, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if raw <= power * factor * 1.0000001)
    first = math.ceil(low / step - 1e-9)
    return [round(step * (first + index), 12) for index in range(int((high - step * first) / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]


def _thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most about `limit` points: the lowest and highest of each stretch, so that spikes stay."""
    if len(points) <= limit:
        return list(points)
    width = 2 * len(points) / limit
    cuts = [round(index * width) for index in range(limit // 2)] + [len(points)]
    out: list[Point] = []
    for a, b in pairwise(cuts):
        stretch = points[a:b]
        out.extend(sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}))
    return out


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = high - low
    return lambda value: start + (end - start) * ((value - low) / span if span else 0.5)


def _path(points: Sequence[Point], x: Callable[[float], float], y: Callable[[float], float], kind: str) -> Markup:
    spots = " ".join(f"{_f(x(a))},{_f(y(b))}" for a, b in points)
    return Markup('<polyline class="{}" points="{}"/>').format(kind, spots)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    shape = Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    return shape.format(kind, _f(x1), _f(y1), _f(x2), _f(y2))


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> Markup:
    shape = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
    return shape.format(kind, _f(x), _f(y), anchor, text)


def _svg(width: float, height: float, parts: Sequence[Markup], kind: str, spoken: str) -> Markup:
    head = Markup('<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">')
    opened = head.format(kind, _f(width), _f(height), _f(width), _f(height), escape(spoken))
    return opened + Markup("").join(parts) + Markup("</svg>")


def _f(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
