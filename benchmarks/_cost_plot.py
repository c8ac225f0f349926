"""The drawing of benchmarks/cost.py: a panel an axis, both scales logarithmic, points beside the proportional line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Protocol

__all__ = ["Drawn", "draw"]

WIDTH, HEIGHT, GAP = 380, 320, 20
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 64, 52
INK, FAINT, GRID, MEASURED, IDEAL = "#1b1f24", "#57606a", "#d8dee4", "#2f5d9b", "#8c959f"


class Drawn(Protocol):
    """What of an axis is drawn."""

    @property
    def title(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def amounts(self) -> Sequence[float]: ...
    @property
    def middles(self) -> Sequence[float]: ...
    @property
    def proportional(self) -> Sequence[float]: ...


def draw(axes: Sequence[Drawn]) -> str:
    """The whole drawing as SVG."""
    width = len(axes) * (WIDTH + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        'role="img" aria-labelledby="t" font-family="system-ui, -apple-system, Segoe UI, Arial, sans-serif">',
        '<title id="t">Seconds of training beside proportional cost</title>',
        f'<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for number, axis in enumerate(axes):
        parts += [f'<g transform="translate({GAP + number * (WIDTH + GAP)},0)">', *_panel(axis), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _panel(axis: Drawn) -> list[str]:
    x = _scale(axis.amounts, LEFT, WIDTH - RIGHT)
    heights = [*axis.middles, *axis.proportional]
    y = _scale(heights, HEIGHT - BOTTOM, TOP)
    parts = [
        _text(0, 22, axis.title, 14, INK, weight=600),
        _text(0, 44, "seconds", 12, FAINT),
        _text(WIDTH - RIGHT, HEIGHT - 8, axis.unit, 12, FAINT, "end"),
        _text(WIDTH - RIGHT, 44, "measured", 12, MEASURED, "end"),
        _text(WIDTH - RIGHT - 70, 44, "in proportion", 12, IDEAL, "end"),
    ]
    for value in _powers(heights):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{GRID}"/>'
        )
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", 12, FAINT, "end"))
    parts += [_text(x(amount), HEIGHT - BOTTOM + 18, _short(amount), 11) for amount in axis.amounts]
    ideal = " ".join(f"{x(a):.1f},{y(s):.1f}" for a, s in zip(axis.amounts, axis.proportional, strict=True))
    found = " ".join(f"{x(a):.1f},{y(s):.1f}" for a, s in zip(axis.amounts, axis.middles, strict=True))
    parts.append(f'<polyline points="{ideal}" fill="none" stroke="{IDEAL}" stroke-dasharray="5 4"/>')
    parts.append(f'<polyline points="{found}" fill="none" stroke="{MEASURED}" stroke-width="1.5"/>')
    for name, amount, spent in zip(axis.names, axis.amounts, axis.middles, strict=True):
        parts.append(
            f'<circle cx="{x(amount):.1f}" cy="{y(spent):.1f}" r="4" fill="{MEASURED}">'
            f"<title>{escape(name)}: {spent:.3g} s</title></circle>"
        )
    return parts


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """From a value to its place on a logarithmic axis that spans them all, with a little room."""
    low, high = log10(min(values)), log10(max(values))
    spare = 0.05 * (high - low) or 0.1
    low, high = low - spare, high + spare
    return lambda value: start + (end - start) * (log10(value) - low) / (high - low)


def _powers(values: Sequence[float]) -> list[float]:
    """Round numbers between the least and the largest: powers of ten, and 2 and 5 times them where those are few."""
    low, high = min(values), max(values)
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    span = range(floor(log10(low)), ceil(log10(high)) + 1)
    return [factor * 10.0**power for power in span for factor in factors if low <= factor * 10.0**power <= high]


def _short(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.3g}"


def _text(
    x: float, y: float, text: str, size: int, color: str = FAINT, anchor: str = "middle", weight: int = 400
) -> str:
    where = "start" if x == 0 else anchor
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{color}" '
        f'text-anchor="{where}">{escape(text)}</text>'
    )
