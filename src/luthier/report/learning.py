"""The page of a learning curve: what was measured, the law that continues it, and what it says of more rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from . import words
from .figures import Series, chart

if TYPE_CHECKING:
    from ..data.curve import LearningCurve

__all__ = ["curve_page", "rows_of"]


def rows_of(curve: LearningCurve) -> list[Mapping[str, Any]]:
    """A row for each size: rows, accuracy with the smallest and largest of the draws, and what the law says, of
    those that it was fitted to.

    After them the rows that nobody has, of which the law alone tells, with its interval.
    """
    found: list[Mapping[str, Any]] = [
        {
            "rows": size,
            "measured": 1 - float(errors.mean()),
            "low": 1 - float(errors.max()),
            "high": 1 - float(errors.min()),
            "law": 1 - float(curve.law.at(size)[0]) if size in curve.lawful else None,
        }
        for size, errors in zip(curve.sizes, curve.errors.T, strict=True)
    ]
    found += [
        {"rows": one.rows, "measured": None, "low": 1 - one.high, "high": 1 - one.low, "law": 1 - one.error}
        for one in curve.more
    ]
    return found


def curve_page(curve: LearningCurve, source: str) -> bytes:
    """One HTML file that opens offline, in the report's style. source: whose rows they are."""
    environment = Environment(
        loader=PackageLoader("luthier.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=words.count, number=words.number, interval=words.interval)
    page = environment.get_template("curve.html.j2").render(
        source=source,
        curve=curve,
        verdict=curve.verdict(),
        rows=rows_of(curve),
        wide=_drawing(curve, 1000, "wide"),
        narrow=_drawing(curve, 380, "narrow"),
        encoder=curve.encoder or "hashed words",
    )
    return page.encode("utf-8", "replace")


def _drawing(curve: LearningCurve, width: float, kind: Any) -> Markup:
    """The law as a line, each draw faint, the means as dots, and the bounds of what is foretold faint too."""
    last = curve.sizes[-1]
    along = np.geomspace(curve.lawful[0], curve.more[-1].rows, 80).tolist()
    series = [Series("", list(zip(curve.sizes, (1 - errors).tolist(), strict=True)), "raw") for errors in curve.errors]
    now = (float(last), 1 - float(curve.means[-1]))
    series += [
        Series("", [now, *((float(one.rows), 1 - bound) for one, bound in bounds)], "raw")
        for bounds in ([(one, one.low) for one in curve.more], [(one, one.high) for one in curve.more])
    ]
    law = [(rows, 1 - float(curve.law.at(rows)[0])) for rows in along]
    series.append(Series("power law", law, "line"))
    series.append(Series("measured", list(zip(curve.sizes, (1 - curve.means).tolist(), strict=True)), "dots"))
    titled = [one for one in series if one.label]
    plain = [one for one in series if not one.label]
    return chart([*plain, *titled], title="accuracy", width=width, kind=kind, over="rows", legend=kind == "wide")
