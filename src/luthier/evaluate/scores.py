"""Scores on disk: `scores/CHECK.SUBJECT.json` in the run folder, one file for each check and subject.

A file says what is needed to aggregate it again without the run's model or data: the check with its parameters, the
facts it goes by, and a digest of each item's content, so that two runs can be held against each other. Numbers come
back bit for bit; NaN and infinities are written as text, since JSON has none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.component import build, describe
from ..core.contracts import Check, Measure, Sample, Scores
from ..core.errors import DataError
from ..core.example import Example
from ..core.files import write_atomic

__all__ = ["Stored", "confusion", "items_of", "load_scores", "save_scores"]


@dataclass(frozen=True)
class Stored:
    """One file of scores: the check as a recipe names it, subject, scores, facts, and each item's digest."""

    check: Any
    subject: str
    scores: Scores
    facts: Mapping[str, Any]
    items: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.check if isinstance(self.check, str) else str(next(iter(self.check)))

    def measures(self) -> Sequence[Measure]:
        """The check's measures, made again from its parameters and facts."""
        check = build("checks", self.check)
        assert isinstance(check, Check)
        return check.measures(self.facts)


def items_of(examples: Sequence[Example]) -> dict[str, str]:
    """For each example's id a digest of what it asks and wants; where it lies and what prepared it do not count."""
    result: dict[str, str] = {}
    for example in examples:
        plain = example.to_json()
        content = json.dumps([plain["parts"], plain["target"]], sort_keys=True, ensure_ascii=False)
        result[example.id] = hashlib.sha256(content.encode()).hexdigest()[:16]
    return result


def save_scores(
    folder: Path,
    scores: Scores,
    *,
    check: Check,
    subject: str,
    facts: Mapping[str, Any],
    items: Mapping[str, str],
) -> Path:
    """Writes `folder`/CHECK.SUBJECT.json whole or not at all and returns its path."""
    value = {
        "check": describe(check),
        "subject": subject,
        "facts": dict(facts),
        "rows": list(scores.rows),
        "items": [items.get(row) for row in scores.rows],
        "values": {name: _to_plain(numbers) for name, numbers in scores.values.items()},
        "clusters": None if scores.clusters is None else list(scores.clusters),
        "samples": [[sample.row, sample.prompt, sample.wanted, sample.answer] for sample in scores.samples],
        "note": scores.note,
    }
    path = folder / f"{check.component_name()}.{subject}.json"
    write_atomic(path, json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def load_scores(path: Path) -> Stored:
    """What `save_scores` wrote. Errors: DataError where the file is not one of its files."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(value["rows"])
        scores = Scores(
            rows=rows,
            values={name: _from_plain(numbers, len(rows)) for name, numbers in value["values"].items()},
            clusters=None if value["clusters"] is None else tuple(value["clusters"]),
            samples=tuple(Sample(*sample) for sample in value["samples"]),
            note=value["note"],
        )
        items = {row: item for row, item in zip(rows, value["items"], strict=True) if item is not None}
        return Stored(value["check"], value["subject"], scores, value["facts"], items)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the scores cannot be read: {type(error).__name__}: {error}",
            where=str(path),
            expected="a file that a run wrote",
            remedy="run the recipe again; finished stages are kept",
        ) from error


def _to_plain(numbers: NDArray[np.float64]) -> dict[str, Any]:
    """Columns one after the other: whole numbers as such, the others in the shortest form that reads back the same."""
    return {"columns": [[_number(x) for x in column.tolist()] for column in np.asarray(numbers, dtype=np.float64).T]}


def _number(value: float) -> float | int | str:
    if math.isfinite(value):
        whole = value.is_integer() and abs(value) < 2**53 and not (value == 0 and math.copysign(1, value) < 0)
        return int(value) if whole else value
    return str(value)


def _from_plain(value: Mapping[str, Any], rows: int) -> NDArray[np.float64]:
    columns = [np.array([float(x) for x in column], dtype=np.float64) for column in value["columns"]]
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))


def confusion(scores: Scores, classes: Sequence[str]) -> dict[str, Any] | None:
    """{"classes", "matrix"} for the report, from the check `classification`; matrix[gold][predicted] counts rows.

    None where the scores hold no pairs of gold and predicted class (several labels a row, or another check).
    """
    pairs = scores.values.get("pairs")
    if pairs is None:
        return None
    size = len(classes)
    cells = pairs.astype(np.int64)
    counts = np.bincount(cells[:, 0] * size + cells[:, 1], minlength=size * size).reshape(size, size)
    return {"classes": list(classes), "matrix": counts.tolist()}
