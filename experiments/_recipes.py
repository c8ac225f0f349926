"""What the experiments on shipped recipes share: the outside data, a run that resumes, rows from findings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import luthier
from benchmarks.record import Measured
from luthier.core.evidence import Finding
from luthier.pipeline import Run

__all__ = ["arguments_of", "effect", "finding", "outside", "ran"]


def arguments_of(about: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """--quick, --json FILE, --out FOLDER (run folders that are finished there are read, not run again)."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="about a minute: few rows and steps; no floor is held")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("out/experiments"))
    return parser.parse_args(arguments)


def outside(relative: str) -> Path:
    """A file of the outside data; ends the experiment with what to do where it is absent."""
    root = os.environ.get("LUTHIER_DATA")
    path = Path(root or "") / relative
    if root is None or not path.exists():
        print(f"outside data '{relative}' is absent: set LUTHIER_DATA to the folder that holds it", file=sys.stderr)
        raise SystemExit(2)
    return path


def ran(recipe: str, overrides: Sequence[str], folder: Path) -> Run:
    """The recipe's run in `folder`; a finished one is kept."""
    print(f"luthier run {recipe} --out {folder}", flush=True)
    return luthier.run(recipe, overrides, out=folder)


def finding(run: Run, name: str, subject: str) -> Finding:
    """The finding CHECK.METRIC of a subject."""
    for found in run.findings:
        if f"{found.check}.{found.metric}" == name and found.subject == subject and found.group is None:
            return found
    raise KeyError(f"{name} of {subject}")


def effect(run: Run, name: str, what: str, *, floor: bool) -> list[Measured]:
    """Tuned beside base and the change with its interval; with `floor`, the near bound is on the good side."""
    base, tuned, change = (finding(run, name, subject) for subject in ("base", "tuned", "change"))
    rows = [Measured(f"{what}: {name}", tuned.value, base.value, change.value, change.low, change.high)]
    if floor and change.low is not None and change.high is not None:
        bound = change.low if change.better == "higher" else -change.high
        rows.append(Measured(f"{what}: distance of that interval from zero", bound, None, bound, floor=0.0))
    return rows
