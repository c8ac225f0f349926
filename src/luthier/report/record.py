"""What a run folder holds, read once for the page and the card; files that are absent are empty."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import DataError
from ..core.evidence import Finding
from ..core.gates import Verdict
from ..core.run import read_events

__all__ = ["Curve", "Record", "SeedRun", "read_record"]


@dataclass
class Curve:
    """The steps and validations of one phase that count: an interrupted attempt's repeated steps are gone."""

    phase: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    """What the policy answered while it learned from its own answers: figures, and samples with their rewards."""

    def add(self, event: Mapping[str, Any]) -> None:
        """A step goes back behind everything that was logged at or after it: training was resumed from there."""
        step = event.get("step")
        if not isinstance(step, int):
            return
        if event["event"] == "step":
            while self.steps and self.steps[-1]["step"] >= step:
                self.steps.pop()
            self.steps.append(dict(event))
        while self.validations and self.validations[-1]["step"] >= step:
            self.validations.pop()
        while self.rollouts and self.rollouts[-1]["step"] >= step + (event["event"] != "rollout"):
            self.rollouts.pop()
        if event["event"] == "validation":
            self.validations.append(dict(event))
        if event["event"] == "rollout":
            self.rollouts.append(dict(event))

    def points(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of every step that has a finite `key`."""
        return [(float(e["step"]), float(e[key])) for e in self.steps if _finite(e.get(key))]

    def figures(self) -> list[str]:
        """What the objective told beside its loss, such as margin and accuracy, by name."""
        found = (event.get("figures") for event in (*self.steps, *self.validations))
        return list(dict.fromkeys(name for each in found if isinstance(each, Mapping) for name in each))

    def figure_points(self, name: str, *, validation: bool = False) -> list[tuple[float, float]]:
        """(step, value) of a figure, of the steps or of the validations."""
        events = self.validations if validation else self.steps
        found = [(event["step"], event["figures"].get(name)) for event in events if event.get("figures")]
        return [(float(step), float(value)) for step, value in found if _finite(value)]

    def validation_points(self) -> list[tuple[float, float]]:
        """(step, validation loss) of the finite ones."""
        return [(float(e["step"]), float(e["loss"])) for e in self.validations if _finite(e.get("loss"))]


@dataclass(frozen=True)
class SeedRun:
    """One repetition under seeds/: its number, its report relative to the parent, and its findings."""

    seed: int
    report: str
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Record:
    """A run as its folder tells it."""

    folder: Path
    recipe: Mapping[str, Any]
    recipe_text: str
    manifest: Mapping[str, Any]
    findings: Sequence[Finding]
    verdicts: Sequence[Verdict]
    samples: Mapping[str, Sequence[Mapping[str, Any]]]
    confusion: Mapping[str, Mapping[str, Any]]
    summary: Mapping[str, Any]
    curves: Sequence[Curve]
    warnings: Mapping[str, int]
    """Each warning's text and how often it was given."""
    seeds: Sequence[SeedRun]
    measured: bool
    """Whether evidence.json is there: the run came to its end."""

    @property
    def name(self) -> str:
        """The run's name, or its folder's."""
        return str(self.manifest.get("name") or self.recipe.get("name") or self.folder.resolve().name)

    def part(self, key: str) -> Mapping[str, Any]:
        """A mapping of the manifest, empty where it is absent."""
        value = self.manifest.get(key)
        return value if isinstance(value, Mapping) else {}


def read_record(folder: Path) -> Record:
    """Reads a run folder.

    Errors: DataError when it is no run folder, or when one of its JSON or YAML files cannot be read.
    """
    folder = Path(folder)
    if not any((folder / name).is_file() for name in ("recipe.yaml", "manifest.json", "evidence.json")):
        raise DataError(
            "this is no run folder",
            where=str(folder),
            expected="a folder with recipe.yaml, manifest.json or evidence.json",
            remedy="give the folder that `luthier run` named at its end",
        )
    recipe_file = folder / "recipe.yaml"
    recipe_text = recipe_file.read_text(encoding="utf-8") if recipe_file.exists() else ""
    evidence = _json(folder / "evidence.json")
    curves, warnings = _events(folder / "events.jsonl")
    return Record(
        folder,
        _recipe(recipe_text, recipe_file),
        recipe_text,
        _json(folder / "manifest.json"),
        _findings(evidence),
        [Verdict.from_json(verdict) for verdict in evidence.get("gates", ())],
        evidence.get("samples") or {},
        evidence.get("confusion") or {},
        _json(folder / "data" / "summary.json"),
        curves,
        warnings,
        _seeds(folder),
        (folder / "evidence.json").exists(),
    )


def _recipe(text: str, file: Path) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"the recipe cannot be read: {error}", where=str(file)) from error
    return value if isinstance(value, dict) else {}


def _json(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = "the same `luthier run` command writes it again when the file is removed"
        raise DataError(f"the file is damaged: {error}", where=str(file), expected="JSON", remedy=remedy) from error
    return value if isinstance(value, dict) else {}


def _findings(evidence: Mapping[str, Any]) -> list[Finding]:
    return [Finding.from_json(value) for value in evidence.get("findings", ())]


def _events(file: Path) -> tuple[list[Curve], dict[str, int]]:
    curves: dict[str, Curve] = {}
    warnings: dict[str, int] = {}
    for event in read_events(file):
        kind = event.get("event")
        if kind == "warning":
            text = str(event.get("text", ""))
            warnings[text] = warnings.get(text, 0) + 1
        elif kind in ("step", "validation", "rollout"):
            phase = str(event.get("phase") or "train")
            curves.setdefault(phase, Curve(phase)).add(event)
    samples = _samples(file.parent) if any(curve.rollouts for curve in curves.values()) else {}
    for curve in curves.values():
        for event in curve.rollouts:
            event["samples"] = samples.get((curve.phase, event["step"]), [])
    return list(curves.values()), warnings


def _samples(folder: Path) -> dict[tuple[str, int], list[Any]]:
    """What was answered in a phase's rollouts, by phase and step; of several attempts at a step the last."""
    every = [
        (place.parent.name.partition("-")[2], event)
        for place in (folder / "phases").glob("*/rollouts.jsonl")
        for event in read_events(place)
    ]
    every.sort(key=lambda one: float(one[1].get("time", 0)))
    return {(phase, event["step"]): event["samples"] for phase, event in every if event.get("samples")}


def _seeds(folder: Path) -> list[SeedRun]:
    found = []
    for place in (folder / "seeds").glob("seed-*"):
        number = place.name.removeprefix("seed-")
        if number.isdigit():
            evidence = _json(place / "evidence.json")
            found.append(SeedRun(int(number), f"seeds/{place.name}/report.html", _findings(evidence)))
    return sorted(found, key=lambda run: run.seed)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
