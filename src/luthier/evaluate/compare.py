"""Two runs on the same items: the tuned model of each, row by row.

The checks' own measures are computed again from the scores in both run folders, with intervals, and the second run
minus the first is tested in pairs. Items that differ are refused: averages over different rows cannot be subtracted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.component import describe
from ..core.errors import DataError
from ..core.evidence import Check, Finding, Scores
from ..core.recipe_file import load_recipe
from .findings import adjust, aligned, change, level, resampling_of
from .scores import read_scores

__all__ = ["compare"]

_TUNED = ".tuned.json"


@dataclass(frozen=True)
class _Run:
    """What a run folder says of its checks: the checks by name, the tuned model's scores, the surveyed facts."""

    name: str
    checks: Mapping[str, Check]
    scores: Mapping[str, Scores]
    facts: Mapping[str, Any]


def compare(run_a: Path, run_b: Path, *, seed: int = 0, resamples: int = 1000) -> list[Finding]:
    """Findings of both runs under their folders' names, and "change": `run_b` minus `run_a`, p by Holm.

    Measures that stand against another subject (a ratio to base) are left out: they compare within a run.
    Errors: DataError where a folder has no scores, no check is in both, a check's parameters differ, or items differ.
    """
    if run_a.resolve() == run_b.resolve():
        raise DataError(f"'{run_a}' was given twice", expected="two different run folders")
    same_name = run_a.resolve().name == run_b.resolve().name
    a = _read(run_a, str(run_a) if same_name else run_a.resolve().name)
    b = _read(run_b, str(run_b) if same_name else run_b.resolve().name)
    shared = [name for name in a.scores if name in b.scores]
    if not shared:
        raise DataError(
            f"the runs have no check in common: {', '.join(a.scores)} and {', '.join(b.scores)}",
            where=f"{run_a}, {run_b}",
            expected="at least one check that both recipes name",
            remedy="add the same check to both recipes and run them again; training is kept",
        )
    found: list[Finding] = []
    for check in shared:
        _same_question(check, a, b)
        scores = aligned({a.name: a.scores[check], b.name: b.scores[check]})
        resampling = resampling_of(scores, check, seed, resamples)
        for measure in a.checks[check].measures(a.facts):
            if measure.against is None:
                found.extend(level(scores, name, measure, check, resampling) for name in (a.name, b.name))
                if measure.paired:
                    found.append(change(scores, a.name, b.name, measure, check, resampling))
    return adjust(found)


def _read(folder: Path, name: str) -> _Run:
    files = sorted((folder / "scores").glob(f"*{_TUNED}"))
    if not files:
        seeds = sorted((folder / "seeds").glob("seed-*"))
        raise DataError(
            "the folder holds no scores of a tuned model",
            where=str(folder),
            expected="the folder of a run whose recipe has checks and that went to its end",
            remedy=f"compare one seed's run: {seeds[0]}" if seeds else "finish the run: luthier run RECIPE",
        )
    recipe = load_recipe(folder / "recipe.yaml")
    checks = {check.component_name(): check for check in recipe.checks if isinstance(check, Check)}
    names = [file.name.removesuffix(_TUNED) for file in files]
    surveyed = folder / "phases" / f"{len(recipe.phases)}-{recipe.phases[-1].name}" / "facts.json"
    facts = json.loads(surveyed.read_text(encoding="utf-8")) if surveyed.exists() else {}
    scores = {check: read_scores(folder / "scores", check, "tuned") for check in names if check in checks}
    return _Run(name, checks, scores, facts)


def _same_question(check: str, a: _Run, b: _Run) -> None:
    """Refuses scores that do not answer the same question on the same items."""
    if describe(a.checks[check]) != describe(b.checks[check]):
        raise DataError(
            f"the check '{check}' has other parameters in the second run: "
            f"{describe(a.checks[check])} and {describe(b.checks[check])}",
            expected="the same parameters in both",
        )
    if a.facts.get("classes") != b.facts.get("classes"):
        raise DataError(
            f"the runs know other classes in the check '{check}'",
            expected="the same classes in both",
            remedy="train both on data with the same classes",
        )
    first, second = a.scores[check], b.scores[check]
    items_a = dict(zip(first.rows, first.items, strict=True))
    items_b = dict(zip(second.rows, second.items, strict=True))
    common = items_a.keys() & items_b.keys()
    same = sum(items_a[row] == items_b[row] for row in common)
    if same == len(first.rows) == len(second.rows):
        return
    other = len(common) - same
    raise DataError(
        f"the check '{check}' measured other items: {len(first.rows)} and {len(second.rows)} rows, "
        f"{same} shared" + (f", {other} with the same id but other content" if other else ""),
        expected="the same items in both runs",
        remedy="give both recipes the same test file, the same preparing steps and, where test is a share, one seed",
    )
