"""Does contrastive training raise retrieval on intents that it never saw? Banking77, held out by class.

    python -m experiments.retrieval [--quick] [--json FILE]

Half of the 77 intents are trained on (texts of one intent belong together), the others' test messages look for each
other: retrieval before and after, for three draws of the intents. Control: the same training with the labels of the
training rows shuffled, which must not help.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import luthier
from benchmarks.record import Measured, finish

from ._recipes import arguments_of, finding, outside
from ._seeds import mean_interval

__all__ = ["main", "written"]

Rows = list[tuple[str, str]]


def _read(name: str) -> Rows:
    with outside(f"tasks/banking77/{name}").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def written(folder: Path, train: Rows, test: Rows, seed: int, *, shuffled: bool, limit: int | None) -> dict[str, str]:
    """Rows of half of the intents to train on and test rows of the others, as files."""
    draw = random.Random(seed)
    names = sorted({name for _, name in train})
    draw.shuffle(names)
    seen = set(names[: len(names) // 2])
    kept = [row for row in train if row[1] in seen]
    draw.shuffle(kept)
    labels = [name for _, name in kept]
    if shuffled:
        draw.shuffle(labels)
    files = {
        "train": [(text, label) for (text, _), label in zip(kept, labels, strict=True)][:limit],
        "test": [row for row in test if row[1] not in seen][:limit],
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, rows in files.items():
        path = folder / f"{name}.jsonl"
        content = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
        paths[name] = str(path)
    return paths


def recipe(data: dict[str, str], *, quick: bool) -> dict[str, Any]:
    """Contrast on classes, all weights."""
    phase: dict[str, Any] = {
        "name": "contrast",
        "objective": {"contrast": {"symmetric": True}},
        "adaptation": "full",
        "optimizer": {"adamw": {"lr": 3e-5, "weight_decay": 0.01}},
        "schedule": {"linear": {"warmup": 0.1}},
        "per_step": {"rows": 64},
        "max_length": 64,
    }
    phase |= {"steps": 4} if quick else {"epochs": 1}
    return {
        "name": "retrieval-by-class",
        "model": "embedded:minilm",
        "data": data,
        "phases": [phase],
        "checks": ["retrieval"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Contrastive training on some intents, retrieval on others.", arguments)
    train, test = _read("train.csv"), _read("test.csv")
    seeds, limit = ((1,), 200) if given.quick else ((1, 2, 3), None)
    rows = []
    for what, shuffled in (("labels as they are", False), ("control: labels shuffled", True)):
        found: dict[str, list[tuple[float, float]]] = {"ndcg_10": [], "precision_1": []}
        for seed in seeds:
            folder = given.out / f"retrieval-{seed}{'-shuffled' if shuffled else ''}{'-quick' if given.quick else ''}"
            data = written(folder / "data", train, test, seed, shuffled=shuffled, limit=limit)
            run = luthier.run(recipe(data, quick=given.quick), out=folder / "run")
            for name, values in found.items():
                base, tuned = (finding(run, f"retrieval.{name}", subject).value for subject in ("base", "tuned"))
                values.append((tuned, base))
        for name, values in found.items():
            pairs = np.array(values)
            mean, low, high = mean_interval(pairs[:, 0] - pairs[:, 1])
            title = f"Banking77, unseen intents, {what}: {name} (other: before training; value: gain)"
            floor = 0.0 if not given.quick and not shuffled else None
            rows.append(Measured(title, *pairs.mean(0).tolist(), mean, low, high))
            if floor is not None and low is not None:
                rows.append(Measured(f"{title}: the interval's lower bound", low, None, low, floor=floor))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
