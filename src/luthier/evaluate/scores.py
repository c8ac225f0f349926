"""Scores on disk: `scores/CHECK.SUBJECT.json` in the run folder, one file for each check and subject.

Numbers come back bit for bit; NaN and infinities are written as text, since JSON has none.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.evidence import Confusion, Sample, Scores
from ..core.files import write_atomic

__all__ = ["read_scores", "write_scores"]


def write_scores(folder: Path, check: str, subject: str, scores: Scores) -> Path:
    """Writes `folder`/CHECK.SUBJECT.json whole or not at all and returns its path."""
    confusion = scores.confusion
    value = {
        "check": check,
        "subject": subject,
        "rows": list(scores.rows),
        "items": list(scores.items),
        "values": {name: _to_plain(numbers) for name, numbers in scores.values.items()},
        "clusters": None if scores.clusters is None else list(scores.clusters),
        "samples": [[sample.row, sample.prompt, sample.wanted, sample.answer] for sample in scores.samples],
        "note": scores.note,
        "confusion": confusion and {"classes": confusion.classes, "matrix": confusion.matrix},
    }
    path = folder / f"{check}.{subject}.json"
    write_atomic(path, json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def read_scores(folder: Path, check: str, subject: str) -> Scores:
    """What `write_scores` wrote. Errors: DataError where the file is missing or not one of its files."""
    path = folder / f"{check}.{subject}.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        confusion = value["confusion"]
        return Scores(
            rows=tuple(value["rows"]),
            values={name: _from_plain(numbers, len(value["rows"])) for name, numbers in value["values"].items()},
            clusters=None if value["clusters"] is None else tuple(value["clusters"]),
            samples=tuple(Sample(*sample) for sample in value["samples"]),
            note=value["note"],
            items=tuple(value["items"]),
            confusion=confusion and Confusion(tuple(confusion["classes"]), tuple(map(tuple, confusion["matrix"]))),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the scores cannot be read: {type(error).__name__}: {error}",
            where=str(path),
            expected="a file that a run wrote",
            remedy="run the recipe again; finished stages are kept",
        ) from error


def _to_plain(numbers: NDArray[np.float64]) -> list[list[float | int | str]]:
    """Columns one after the other: they repeat themselves less than rows."""
    return [[_number(x) for x in column.tolist()] for column in np.asarray(numbers, dtype=np.float64).T]


def _number(value: float) -> float | int | str:
    """Whole numbers as such, others in the shortest form that reads back the same."""
    if not math.isfinite(value):
        return str(value)
    negative_zero = value == 0 and math.copysign(1, value) < 0
    return int(value) if value.is_integer() and abs(value) < 2**53 and not negative_zero else value


def _from_plain(columns: list[list[Any]], rows: int) -> NDArray[np.float64]:
    if not columns:
        return np.zeros((rows, 0))
    return np.stack([np.array([float(x) for x in column], dtype=np.float64) for column in columns], axis=1)
