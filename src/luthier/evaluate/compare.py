"""Two runs on the same items: the tuned model of each, row by row.

The check's own measures are computed again from the scores in both run folders, with intervals, and the second run
minus the first is tested in pairs. Items that differ are refused: averages over different rows cannot be subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..core.contracts import Finding
from ..core.errors import DataError
from .findings import adjust, aligned, change, level, resampling_of
from .scores import Stored, load_scores

__all__ = ["compare"]


def compare(run_a: Path, run_b: Path, *, seed: int = 0, resamples: int = 1000) -> list[Finding]:
    """Findings of both runs under their folders' names, and "change": `run_b` minus `run_a`, p by Holm.

    Measures that stand against another subject (a ratio to base) are left out: they compare within a run.
    Errors: DataError where a folder has no scores, no check is in both, a check's parameters differ, or items differ.
    """
    first, second = _tuned(run_a), _tuned(run_b)
    shared = [name for name in first if name in second]
    if not shared:
        raise DataError(
            "the runs have no check in common",
            where=f"{run_a} ({', '.join(first)}) and {run_b} ({', '.join(second)})",
            expected="at least one check that both recipes name",
            remedy="add the same check to both recipes and run them again; training is kept",
        )
    name_a, name_b = run_a.resolve().name, run_b.resolve().name
    if name_a == name_b:
        name_a, name_b = str(run_a), str(run_b)
    if name_a == name_b:
        raise DataError(f"'{name_a}' was given twice", expected="two different run folders")
    found: list[Finding] = []
    for check in shared:
        a, b = first[check], second[check]
        _same_question(check, a, b)
        scores = aligned({name_a: a.scores, name_b: b.scores})
        resampling = resampling_of(scores, check, seed, resamples)
        for measure in a.measures():
            if measure.against is None:
                found.extend(level(scores, name, measure, check, resampling) for name in (name_a, name_b))
                if measure.paired:
                    found.append(change(scores, name_a, name_b, measure, check, resampling))
    return adjust(found)


def _tuned(run: Path) -> Mapping[str, Stored]:
    """The tuned model's scores by check."""
    files = sorted((run / "scores").glob("*.tuned.json"))
    if not files:
        seeds = sorted(folder.name for folder in (run / "seeds").glob("seed-*"))
        raise DataError(
            "the folder holds no scores of a tuned model",
            where=str(run),
            expected="the folder of a run whose recipe has checks and that went to its end",
            remedy=f"compare one repetition: {run / 'seeds' / seeds[0]}"
            if seeds
            else "finish the run: luthier run RECIPE",
        )
    stored = [load_scores(file) for file in files]
    return {one.name: one for one in stored}


def _same_question(check: str, a: Stored, b: Stored) -> None:
    """Refuses scores that do not answer the same question on the same items."""
    if a.check != b.check:
        raise DataError(
            f"the check '{check}' has other parameters in the second run: {a.check} and {b.check}",
            expected="the same parameters in both",
        )
    shared = a.items.keys() & b.items.keys()
    same = sum(a.items[row] == b.items[row] for row in shared)
    if same == len(a.scores.rows) == len(b.scores.rows):
        if a.facts.get("classes") != b.facts.get("classes"):
            raise DataError(f"the runs know other classes in the check '{check}'", expected="the same classes in both")
        return
    changed = len(shared) - same
    raise DataError(
        f"the check '{check}' measured other items: {len(a.scores.rows)} and {len(b.scores.rows)} rows, "
        f"{same} shared" + (f", {changed} with the same id and other content" if changed else ""),
        expected="the same items in both runs",
        remedy="give both recipes the same test file and the same preparing steps",
    )
