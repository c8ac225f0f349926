"""Rows of measurements, and the page that is written from them.

    python -m benchmarks.record out/sft_lora.json --into docs/benchmarks.md

A benchmark or an experiment ends in rows {name, ours, other, value, low, high, floor, holds}; its JSON file is a list
of them, each with where and when it was measured. This command writes them as one section a file, named after the file,
between two marks in the page, with the drawing images/NAME.svg beside the page where there is one; the rest of the
page, and what other files wrote, stays as it is.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Measured", "finish", "measured_here", "placed", "section", "table", "update"]

PACKAGES = (
    "luthier",
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "sentence-transformers",
    "datasets",
    "datasketch",
    "presidio-analyzer",
    "phonenumbers",
    "numpy",
)


@dataclass(frozen=True)
class Measured:
    """One line of a benchmark or experiment.

    ours, other: what each side came to, in the unit that `name` says; other None: no peer. value: the ratio or the
    effect, with low and high (extremes of the repeats, or an interval). floor: what value must reach; None: no floor.
    """

    name: str
    ours: float
    other: float | None
    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None

    @property
    def holds(self) -> bool:
        # Not `value < floor`: a value that is no number must not hold.
        return self.floor is None or self.value >= self.floor

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def measured_here() -> dict[str, Any]:
    """Machine, date, versions and command of this process."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()}",
        "python": platform.python_version(),
        "versions": versions,
        "command": f"python -m {_module()} {' '.join(sys.argv[1:])}".strip(),
    }


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else Path(sys.argv[0]).stem


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        found = re.search(r"model name\s*: (.+)", facts.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | ours | other | value | from | to | floor | holds |", "|---|---:|---:|---:|---:|---:|---:|---|"]
    for row in rows:
        numbers = [_number(row[key]) for key in ("ours", "other", "value", "low", "high", "floor")]
        holds = "" if row["floor"] is None else "yes" if row["holds"] else "**no**"
        lines.append("| " + " | ".join([str(row["name"]).replace("|", "\\|"), *numbers, holds]) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def finish(rows: Sequence[Measured], file: Path | None) -> int:
    """Prints the table, writes the JSON file where one is named; returns the exit status, 1 if a row falls short."""
    plain = [row.plain() for row in rows]
    print(table(plain))
    if file is not None:
        where = measured_here()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([{**row, "measured": where} for row in plain], indent=1) + "\n", encoding="utf-8")
    short = [row.name for row in rows if not row.holds]
    for name in short:
        print(f"falls short of its floor: {name}", file=sys.stderr)
    return 1 if short else 0


def section(name: str, rows: Sequence[Mapping[str, Any]], drawing: str | None = None) -> str:
    """One file's section of the page, without its marks; drawing: its place, seen from the page.

    Errors: ValueError for a file without rows.
    """
    if not rows:
        raise ValueError(f"{name} holds no rows")
    text = [f"## {name}", ""]
    for where in _places(rows):
        versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
        text += [
            f"`{where['command']}`",
            "",
            f"{where['date']} · {where['machine']} · Python {where['python']}, {versions}",
        ]
        text += ["", table([row for row in rows if row["measured"] == where]), ""]
    if drawing is not None:
        text += [f"![{name}: the rows above, drawn]({drawing})", ""]
    return "\n".join(text)


def _places(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for row in rows:
        if row["measured"] not in found:
            found.append(row["measured"])
    return found


def update(page: str, name: str, rows: Sequence[Mapping[str, Any]], drawing: str | None = None) -> str:
    """The page with this file's section replaced where it stands, or added at the end; drawing as in `section`."""
    return placed(page, name, section(name, rows, drawing))


def placed(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of `name`, where they stand, or at the end."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    new = f"{begin}\n{text}\n{end}"
    marks = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if marks.search(page):
        return marks.sub(lambda _: new, page)
    return f"{page.rstrip()}\n\n{new}\n" if page.strip() else f"{new}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Writes measurements into a page of the documentation.")
    parser.add_argument("files", nargs="+", type=Path, help="JSON files written with --json")
    parser.add_argument("--into", type=Path, default=Path("docs/benchmarks.md"))
    given = parser.parse_args(arguments)
    title = given.into.stem.replace("_", " ").capitalize()
    page = given.into.read_text(encoding="utf-8") if given.into.is_file() else f"# {title}\n"
    for file in given.files:
        drawing = f"images/{file.stem}.svg"
        found = drawing if (given.into.parent / drawing).is_file() else None
        page = update(page, file.stem, json.loads(file.read_text(encoding="utf-8")), found)
    given.into.parent.mkdir(parents=True, exist_ok=True)
    given.into.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
