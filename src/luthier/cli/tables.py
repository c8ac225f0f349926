"""What commands print at their end: findings, comparisons, the catalog, the doctor's notes, errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ..core.catalog import ROOMS, names, summary
from ..core.embedded import embedded_recipes
from ..core.errors import LuthierError, RecipeError, nearest
from ..core.printable import harmless

if TYPE_CHECKING:
    from ..core.evidence import Finding
    from ..data.curve import LearningCurve
    from ..data.prepare import Prepared
    from ..pipeline import Run

__all__ = ["show_comparison", "show_curve", "show_doctor", "show_error", "show_prepared", "show_rooms", "show_run"]

MARKS = {True: "[green]holds[/]", False: "[red]fails[/]"}


def _number(value: float) -> str:
    if 0 < abs(value) < 0.0005:
        return f"{value:.1e}"  # the difference that a conversion makes is small, and not nothing
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _measured(finding: Finding | None) -> str:
    """The value, and its interval below it: five columns then fit into 80 characters."""
    if finding is None:
        return ""
    if finding.value != finding.value:
        return "undefined"
    bounds = ""
    if finding.low is not None and finding.high is not None:
        bounds = f"\n[dim]{_number(finding.low)} to {_number(finding.high)}[/]"
    return _number(finding.value) + bounds


def _p(change: Finding | None) -> str:
    if change is None or change.p is None:
        return ""
    return "< 0.001" if change.p < 0.001 else f"{change.p:.3f}"


def _table(title: str, headings: Sequence[str], rows: Mapping[tuple[str, str], Sequence[str]]) -> Table:
    """Rows of cells by (check, metric), each check's name on a line of its own."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading)
    before = None
    for (check, metric), cells in rows.items():
        if check != before:
            table.add_row(f"[bold]{check}[/]")
        table.add_row(f"  {metric}", *cells)
        before = check
    return table


def _worst(by: Mapping[str, Finding]) -> Finding | None:
    """Of the models as they are handed over, the one that a gate on all of them judges; undefined is worst."""
    found = [by[subject] for subject in ("merged", "reloaded") if subject in by]
    return max(
        found,
        key=lambda one: math.inf if math.isnan(one.value) else -one.value if one.better == "higher" else one.value,
        default=None,
    )


def show_run(run: Run, until: str) -> None:
    """Base against tuned with intervals, the gates, and where everything lies."""
    from ..report.comparison import never_found

    console = Console(highlight=False)
    rows: dict[tuple[str, str], dict[str, Finding]] = {}
    for finding in run.findings:
        if finding.group is None:
            rows.setdefault((finding.check, finding.metric), {})[finding.subject] = finding
    # What an earlier run of this folder found says nothing about a stage that was done alone.
    measured = until in ("check", "report")
    if rows and measured:
        cells = {}
        for key, by in rows.items():
            tuned, change = by.get("tuned") or _worst(by), by.get("change")
            cells[key] = [_measured(by.get("base")), _measured(tuned), _measured(change), _p(change)]
        console.print(_table("base against tuned, with 95 % intervals", ("base", "tuned", "change", "p"), cells))
        console.print()
    for told in never_found(run.findings) if measured else ():
        console.print(f"[bold]{harmless(told)}[/]\n", soft_wrap=True)
    for verdict in run.gates if measured else ():
        detail = verdict.note or f"{_number(verdict.value or 0.0)} against {_number(verdict.limit or 0.0)}"
        console.print(
            f"gate {MARKS[verdict.holds]}  {harmless(verdict.gate)}  [dim]{harmless(detail)}[/]", soft_wrap=True
        )
    if until == "report":
        console.print(f"report   {run.report}", soft_wrap=True)
    if run.model.exists():
        console.print(f"model    {run.model}", soft_wrap=True)
    console.print(f"run      {run.folder}", soft_wrap=True)


def show_prepared(prepared: Prepared, out: Path, ledger: Path) -> None:
    """What was read and as what, what the steps did and why, and where rows and ledger lie."""
    console = Console(highlight=False)
    for fact in prepared.formats:
        console.print(f"{harmless(fact.path)}: {fact.format}, {harmless(fact.because)}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(justify="right")
    summary = prepared.summary
    table.add_row(f"{summary['read'] + summary['unread']:,}", "rows")
    for count in summary["steps"]:
        table.add_row(f"{count['count']:,}", f"{count['action']}: {harmless(count['reason'])}")
    table.add_row(f"{summary['splits']['train']:,}", "kept")
    table.columns[1].justify = "left"
    console.print(table)
    for found in summary.get("facts", ()):
        for line in _facts(found["facts"]):
            console.print(harmless(line), soft_wrap=True)
    console.print(f"rows     {out}", soft_wrap=True)
    console.print(f"ledger   {ledger}", soft_wrap=True)


def show_curve(curve: LearningCurve, page: Path) -> None:
    """Accuracy by the number of rows, what the power law says of more, and where the page lies."""
    from ..report.learning import rows_of

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("rows", "accuracy", "between", "power law"):
        table.add_column(heading, justify="right")
    for row in rows_of(curve):
        measured = "foretold" if row["measured"] is None else _number(row["measured"])
        between = f"{_number(row['low'])} to {_number(row['high'])}"
        table.add_row(f"{row['rows']:,}", measured, between, "" if row["law"] is None else _number(row["law"]))
    console.print(table)
    console.print(f"{curve.draws} draws, measured on {curve.measured:,} rows of {curve.classes:,} classes")
    console.print(curve.verdict(), soft_wrap=True)
    console.print(f"page     {page}", soft_wrap=True)


def _facts(value: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Nested plain values, a line each."""
    for key, item in value.items():
        start = "  " * depth + str(key).replace("_", " ")
        if isinstance(item, Mapping):
            yield start
            yield from _facts(item, depth + 1)
        elif isinstance(item, (list, tuple)):
            yield f"{start}: {', '.join(map(str, item[:20]))}{f' and {len(item) - 20} more' if len(item) > 20 else ''}"
        else:
            yield f"{start}: {f'{item:.4g}' if isinstance(item, float) else item}"


def show_comparison(first: Path, second: Path, findings: Sequence[Finding]) -> None:
    """Two runs' results on the same items, and their difference with its paired test."""
    console = Console(highlight=False)
    rows: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.group is None:
            rows.setdefault((finding.check, finding.metric), []).append(finding)
    cells = {}
    for key, found in rows.items():
        change = next((finding for finding in found if finding.subject == "change"), None)
        sides = [finding for finding in found if finding is not change]
        cells[key] = [*(_measured(finding) for finding in sides[:2]), _measured(change), _p(change)]
    headings = (harmless(first.name), harmless(second.name), "difference", "p")
    console.print(_table(f"{harmless(str(first))} against {harmless(str(second))}, same items", headings, cells))


def show_rooms(room: str | None) -> None:
    """Every component with its first line; one room, or all."""
    console = Console(highlight=False)
    rooms = [*ROOMS, "recipes"]
    if room is not None and room not in rooms:
        near = nearest(room, rooms)
        raise RecipeError(
            f"there is no room '{room}'",
            expected="one of " + ", ".join(rooms),
            remedy=f"did you mean '{near}'?" if near else None,
        )
    for name in [room] if room else rooms:
        lines = _recipe_lines() if name == "recipes" else {item: summary(name, item) for item in names(name)}
        console.print(f"[bold]{name}[/]")
        width = max(map(len, lines), default=0)
        for item, text in lines.items():
            console.print(f"  {item:<{width}}  [dim]{harmless(text)}[/]", soft_wrap=True)


def _recipe_lines() -> Mapping[str, str]:
    folder = Path(__file__).parent.parent / "recipes"
    lines = {}
    for name in embedded_recipes():
        about = [
            line.partition(":")[2].strip().strip("\"'")
            for line in (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
            if line.startswith("about:")
        ]
        lines[name] = about[0] if about else ""
    return lines


def show_doctor(sections: Mapping[str, Mapping[str, Any]]) -> None:
    """The doctor's notes, section by section."""
    console = Console(highlight=False)
    for title, entries in sections.items():
        console.print(f"[bold]{title}[/]")
        width = max(map(len, entries), default=0)
        for key, value in entries.items():
            console.print(f"  {key:<{width}}  {harmless(str(value))}", soft_wrap=True)


def show_error(error: LuthierError) -> None:
    """Each problem: where, what was found, what was expected, the remedy."""
    console = Console(stderr=True, highlight=False)
    count = len(error.problems)
    if count > 1:
        console.print(f"[red]{count} problems[/]")
    for problem in error.problems:
        place = f"[bold]{harmless(problem.where)}[/]: " if problem.where else ""
        console.print(f"[red]error:[/] {place}{harmless(problem.found)}", soft_wrap=True)
        if problem.expected:
            console.print(f"  expected: {harmless(problem.expected)}", soft_wrap=True)
        if problem.remedy:
            console.print(f"  remedy:   {harmless(problem.remedy)}", soft_wrap=True)
