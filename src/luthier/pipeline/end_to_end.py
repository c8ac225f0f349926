"""Runs a recipe from end to end: prepare, base, train, export, check, report. A finished stage is not done again."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import (
    DataError,
    GateFailed,
    Interrupted,
    LuthierError,
    MachineError,
    Problem,
    RecipeError,
    out_of_memory,
)
from ..core.evidence import Finding
from ..core.files import write_atomic
from ..core.gates import Verdict
from ..core.lock import locked
from ..core.recipe import Recipe
from ..core.recipe_file import dump, load_recipe
from ..core.run import EventLog, RunFolder

__all__ = ["STAGES", "Run", "fit", "run"]

STAGES = ("prepare", "base", "train", "export", "check", "report")
"""The stages of a run, in order; `until` names the last one to do."""

Listener = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and what was found."""

    folder: Path
    findings: tuple[Finding, ...]
    gates: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate holds."""
        return all(verdict.holds for verdict in self.gates)

    @property
    def report(self) -> Path:
        """The page's path."""
        return self.folder / "report.html"

    @property
    def model(self) -> Path:
        """The result in Hugging Face format."""
        return self.folder / "model"

    def value(self, name: str, subject: str = "tuned") -> float:
        """A finding's value: run.value("text_match.exact"). Errors: KeyError naming what was measured."""
        for finding in self.findings:
            if f"{finding.check}.{finding.metric}" == name and finding.subject == subject and finding.group is None:
                return finding.value
        raise KeyError(f"{name} of {subject}; measured: {sorted({f'{f.check}.{f.metric}' for f in self.findings})}")

    def require_gates(self) -> None:
        """Nothing where every gate holds. Errors: GateFailed with one problem for each that does not."""
        if not self.passed:
            raise GateFailed(
                Problem(
                    verdict.note or f"measured {verdict.value:.4g}, held against {verdict.limit:.4g}",
                    f"gate '{verdict.gate}'",
                    remedy=f"the evidence lies in {self.report}",
                )
                for verdict in self.gates
                if not verdict.holds
            )

    @classmethod
    def of(cls, folder: Path | str) -> Run:
        """The run in a folder, as far as it is there."""
        path = Path(folder)
        evidence = path / "evidence.json"
        if not evidence.exists():
            return cls(path, (), ())
        record = json.loads(evidence.read_text(encoding="utf-8"))
        return cls(
            path,
            tuple(Finding.from_json(finding) for finding in record["findings"]),
            tuple(Verdict.from_json(verdict) for verdict in record["gates"]),
        )


def run(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    until: str = "report",
    listeners: Sequence[Listener] = (),
    raise_on_gates: bool = False,
) -> Run:
    """Runs a recipe (file, shipped name, mapping or Recipe) in `out` (default: runs/NAME), resuming what is there.

    overrides: "key.path=value". until: the last stage to do. listeners: called with each event.
    Errors: RecipeError, DataError, ModelError, MachineError, TrainingDiverged, Interrupted; GateFailed if asked for.
    """
    if until not in STAGES:
        raise RecipeError(f"there is no stage '{until}'", expected="one of " + ", ".join(STAGES))
    loaded = load_recipe(recipe, overrides)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / loaded.name)
    done = _locked_run(loaded, folder, until, listeners)
    if raise_on_gates:
        done.require_gates()
    return done


def _locked_run(
    recipe: Recipe,
    folder: RunFolder,
    until: str,
    listeners: Sequence[Listener],
    given: tuple[Path, bytes] | None = None,
) -> Run:
    """The run in its folder, alone in there. given: a file of rows that were handed over, and its content."""
    folder.refuse_foreign()
    with locked(folder.path) as alone, _stoppable() as stop:
        folder.recover()
        if not alone:
            text = "the file system has no locks: see that no other run writes to this folder"
            for listener in listeners:
                listener({"event": "warning", "text": text})
        _refuse_another(recipe, folder)
        if given is not None:
            write_atomic(*given)
        with _recipe_put_back(folder):
            write_atomic(folder.recipe, dump(recipe))
            if len(recipe.seeds) == 1:
                return _run_one(recipe, folder, until, listeners, stop)
            from .repeat import repeat

            repeat(recipe, folder, until, listeners, lambda single, at: _run_one(single, at, until, listeners, stop))
        return Run.of(folder.path)


def _refuse_another(recipe: Recipe, folder: RunFolder) -> None:
    """A recipe that was changed takes its folder over, stage by stage; one of another name would undo its training."""
    stages = folder.manifest().get("stages", {})
    if not folder.recipe.is_file() or not any(stage.startswith("train ") for stage in stages):
        return
    name = folder.manifest().get("name")
    if name not in (None, recipe.name):
        raise RecipeError(
            f"the folder holds a trained run of the recipe '{name}', and this one is '{recipe.name}'",
            where=str(folder.path),
            expected="a new folder, or one of the same recipe",
            remedy=f"--out names another folder; to go on with this one, name={name}",
        )


@contextmanager
def _recipe_put_back(folder: RunFolder) -> Iterator[None]:
    """Where data refuses a changed recipe before any stage began, the folder keeps the recipe of what lies in it."""
    folders = [folder, *(RunFolder(path) for path in folder.path.glob("seeds/seed-*"))]
    recipes = {each.recipe: each.recipe.read_bytes() for each in folders if each.recipe.is_file()}
    before = [each.manifest().get("stages") for each in folders]
    try:
        yield
    except DataError:
        if [each.manifest().get("stages") for each in folders] == before:
            for path, content in recipes.items():
                write_atomic(path, content)
        raise


def _run_one(
    recipe: Recipe, folder: RunFolder, until: str, listeners: Sequence[Listener], stop: Callable[[], bool]
) -> Run:
    """One run with one seed: every stage in order, each kept if it was finished for the same inputs."""
    import torch

    from ..engine.device import choose, keep_memory
    from ..engine.energy import Energy
    from ..engine.phase import Setting
    from . import stages

    started = time.monotonic()
    keep_memory()
    energy, before, name = Energy(), folder.manifest().get("stages"), STAGES[0]
    log = EventLog(folder.events, tuple(listeners) + stages.trackers(recipe, folder))
    try:
        if recipe.machine.threads is not None:
            torch.set_num_threads(recipe.machine.threads)
        compute = choose(recipe.machine, folder.manifest().get("machine", {}).get("dtype"))
        setting = Setting(recipe, folder, compute, log, recipe.seeds[0], stop)
        stages.describe(setting)
        for name in STAGES[: STAGES.index(until) + 1]:
            # A run in which every stage is kept costs nothing worth adding, and changes no file.
            if name == "report" and folder.manifest().get("stages") != before:
                folder.update_manifest(energy=energy.used(since=folder.manifest().get("energy")))
            getattr(stages, name)(setting)
            if stop() and name != until:
                raise Interrupted(f"stopped after the stage '{name}'", remedy="the same command goes on from here")
        log("note", text=f"done in {time.monotonic() - started:.0f} s")
    except LuthierError:
        raise
    except Exception as error:  # each library has its own for it
        if not out_of_memory(error):
            raise
        raise MachineError(
            "the memory ran out",
            where=f"the stage '{name}'",
            remedy="free some memory, lower machine.micro_tokens or max_length, or take a smaller model; "
            "the same command goes on from the last checkpoint",
        ) from error
    finally:
        log.close()
    return Run.of(folder.path)


def fit(
    model: str,
    train: str | Path | Sequence[Mapping[str, Any]],
    *,
    validation: float | str | None = None,
    test: float | str | None = None,
    checks: Sequence[Any] = (),
    gates: Sequence[str] = (),
    prepare: Sequence[Any] = (),
    out: str | Path | None = None,
    name: str = "fit",
    seed: int = 1,
    listeners: Sequence[Listener] = (),
    **phase: Any,
) -> Run:
    """One phase without a recipe file: `fit("embedded:nano", rows, adaptation={"lora": {"rank": 8}}, epochs=2)`.

    train: a path, or records as a JSONL line holds them. prepare: steps on the data. Other keywords: of a Phase.
    Errors: as `run`.
    """
    folder = Path(out) if out is not None else Path("runs") / name
    given = folder / "given.jsonl"
    source = train if isinstance(train, (str, Path)) else given
    data = {"train": str(source), "validation": validation, "test": test, "steps": list(prepare)}
    value = {
        "name": name,
        "model": model,
        "data": {key: item for key, item in data.items() if item is not None},
        "phases": [phase],
        "checks": list(checks),
        "gates": list(gates),
        "seed": seed,
    }
    recipe = Recipe.of(value)  # before anything is written: the name is part of a path
    if isinstance(train, (str, Path)):
        return run(recipe, out=folder, listeners=listeners)
    rows = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in train)
    # Half of a surrogate pair becomes its escape in JSON, and reading tells the row.
    written = rows.encode("utf-8", "backslashreplace")
    return _locked_run(recipe, RunFolder(folder), "report", listeners, (given, written))


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """SIGTERM and Ctrl-C ask for a stop after the current step; a second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT:  # a handler may come in the middle of a print: this goes past all buffers
            os.write(2, b"stopping after this step; Ctrl-C again stops at once\n")
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
