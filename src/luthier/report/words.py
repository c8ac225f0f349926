"""Numbers, spans of time and sizes as a reader wants them."""

from __future__ import annotations

import math

__all__ = ["apart", "count", "interval", "number", "probability", "seconds", "signed", "size"]

MINUS = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    """A measured number: three decimals up to ten, fewer above, powers of ten for very small ones."""
    if value is None or math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    size = abs(value)
    if value == 0:
        text = "0"
    elif size < 1e-3:
        text = f"{value:.1e}"
    elif size < 10:
        text = f"{value:.3f}"
    elif size < 1000:
        text = f"{value:.{2 if size < 100 else 1}f}"
    else:
        text = f"{value:,.0f}"
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def count(value: float | None) -> str:
    """A counted number: exact, thousands separated; whole numbers without decimals."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{int(value):,}" if value == int(value) else f"{value:,.2f}"


def signed(value: float | None) -> str:
    """The number with its sign, for changes."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text


def interval(low: float | None, high: float | None, sign: bool = False) -> str:
    """Both bounds, or nothing when either is missing."""
    if low is None or high is None:
        return ""
    show = signed if sign else number
    return f"{show(low)} to {show(high)}"


def apart(value: float | None, limit: float | None) -> tuple[str, str]:
    """Both numbers with as many digits as it takes to tell them apart: 0.92496 is not shown as 0.925 beside 0.925."""
    shown = number(value), number(limit)
    if value is None or limit is None or value == limit:
        return shown
    digits = 4
    while shown[0] == shown[1] and digits <= 17:
        shown = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        digits += 1
    return shown


def probability(p: float | None) -> str:
    """A p-value; very small ones as a bound, since a permutation test cannot tell them apart."""
    if p is None or math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float | None) -> str:
    """A span of time in its two largest units."""
    if value is None:
        return ""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return ""
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
