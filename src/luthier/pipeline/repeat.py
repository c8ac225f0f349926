"""The same recipe over several seeds, and the spread of what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError, Problem
from ..core.files import write_atomic
from ..core.gates import Gate, judge, parse
from ..core.recipe import Recipe
from ..core.recipe_file import dump
from ..core.run import RunFolder
from ..evaluate.repeats import spread

if TYPE_CHECKING:
    from .end_to_end import Run

__all__ = ["repeat"]


def repeat(
    recipe: Recipe,
    folder: RunFolder,
    until: str,
    listeners: Sequence[Callable[[Mapping[str, Any]], None]],
    one: Callable[[Recipe, RunFolder], Run],
) -> None:
    """One run a seed in seeds/seed-N; findings over seeds (mean, t interval) and gates in the parent's evidence.

    `one` does a run with one seed in its folder.
    """
    from . import stages

    runs: dict[int, Run] = {}
    for seed in recipe.seeds:
        single = recipe.model_copy(update={"seed": seed})
        below = RunFolder(folder.seed(seed))
        write_atomic(below.recipe, dump(single))
        for listener in listeners:
            listener({"event": "note", "text": f"seed {seed}"})
        if runs and not below.manifest():
            # What the first seed chose by measuring holds for all: a dtype of its own would look like spread.
            chosen = RunFolder(folder.seed(recipe.seeds[0])).manifest()["machine"]["dtype"]
            below.update_manifest(machine={"dtype": chosen})
        runs[seed] = one(single, below)
    _refuse_other_data(recipe, folder)
    if until in ("check", "report"):
        found = spread({seed: done.findings for seed, done in runs.items()})
        verdicts = [judge(gate, found) for gate in map(parse, recipe.gates) if isinstance(gate, Gate)]
        record = {
            "findings": [finding.to_json() for finding in found],
            "gates": [verdict.to_json() for verdict in verdicts],
            "samples": {},
            "seeds": list(recipe.seeds),
        }
        write_atomic(folder.evidence, json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
        first = RunFolder(folder.seed(recipe.seeds[0])).manifest()
        shared = {
            key: first[key] for key in ("created", "luthier", "versions", "machine", "model", "inputs") if key in first
        }
        folder.update_manifest(name=recipe.name, seeds=list(recipe.seeds), **shared)
    if until == "report":
        stages.finish(folder)


def _refuse_other_data(recipe: Recipe, folder: RunFolder) -> None:
    """A spread over seeds is one only where all saw the same files."""
    seen = {seed: RunFolder(folder.seed(seed)).done("prepare").get("files", {}) for seed in recipe.seeds}
    first = seen[recipe.seeds[0]]
    changed = sorted({path for files in seen.values() for path in first if files.get(path) != first[path]})
    if changed:
        raise DataError(
            [
                Problem(
                    "the file changed between one seed's run and another's",
                    path,
                    "one content for all seeds",
                    "give the same command again: the seeds that saw the old one are run again",
                )
                for path in changed
            ]
        )
