"""Do texts without a label help where labels are few? Banking77, five labels a class, the other training rows bare.

    python -m experiments.semi_supervised [--quick] [--json FILE]

Each side of a draw begins as one model, the first phase of the recipe `few-labels`: the embedded encoder, tuned whole
on the 385 labeled rows and their variants. The control goes on with these for as many steps as the others take; those
learn from the other 9,600 training rows beside them, whose labels are taken away: in two rounds of self-training, by
the consistency of variants (UDA, FixMatch), or from a mean teacher. Accuracy on the whole test set, for five draws of
the labeled rows; gains over the control are paired over the draws.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Measured, finish

from ._recipes import arguments_of, finding, outside, ran
from ._seeds import mean_interval

__all__ = ["METHODS", "begun", "main", "overrides", "written"]

Rows = list[tuple[str, str]]
EACH = 5
STEPS = 160
"""After the first phase: about two passes over the unlabeled rows."""
PHASE: Mapping[str, Any] = {
    "adaptation": {"full": {"head_scale": 10}},
    "optimizer": {"adamw": {"lr": 1e-4, "weight_decay": 0.01}},
    "schedule": {"linear": {"warmup": 0.1}},
    "max_length": 128,
}
LABELED: Mapping[str, Any] = {"classify": {"unlabeled": "leave_out"}}
METHODS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "labeled rows alone": [LABELED],
    "self_train": [
        {"self_train": {"teacher": "START", "confidence": 0.5}},
        {"self_train": {"teacher": "then", "confidence": 0.5}},
    ],
    "uda": [{"uda": {"confidence": 0.6, "temperature": 0.5}}],
    "fixmatch": [{"fixmatch": {"confidence": 0.8}}],
    "mean_teacher": [{"mean_teacher": {}}],
}
"""The objectives of the phases after the first; START is the model that all begin as."""


def _read(name: str) -> Rows:
    with outside(f"tasks/banking77/{name}").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def written(folder: Path, train: Rows, test: Rows, seed: int, each: int = EACH) -> list[str]:
    """The files of a draw as overrides: `each` rows of every class keep their label, the others lose it."""
    draw = random.Random(seed)
    of_class: dict[str, list[int]] = defaultdict(list)
    for number, (_, name) in enumerate(train):
        of_class[name].append(number)
    kept = {number for name in sorted(of_class) for number in draw.sample(of_class[name], each)}
    rows = [{"text": text, "label": name if number in kept else None} for number, (text, name) in enumerate(train)]
    files = {"train": rows, "test": [{"text": text, "label": name} for text, name in test]}
    folder.mkdir(parents=True, exist_ok=True)
    for split, records in files.items():
        content = "".join(json.dumps(record) + "\n" for record in records)
        path = folder / f"{split}.jsonl"
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
    return [f"data.{split}.path={folder / f'{split}.jsonl'}" for split in files]


def begun(quick: bool) -> list[str]:
    """The first phase alone, with a head that is new."""
    first = {**PHASE, "name": "labeled", "objective": LABELED, "per_step": {"rows": 32}}
    first |= {"steps": 4} if quick else {"epochs": 12}
    return [f"phases={json.dumps([first])}", "gates=[]"]


def overrides(method: str, start: Path, quick: bool) -> list[str]:
    """This method from the run `start`, which knows the classes; the steps are as many for each."""
    rounds = json.loads(json.dumps(METHODS[method]).replace("START", str(start)))
    steps = 4 if quick else STEPS // len(rounds)
    shared = {**PHASE, "adaptation": "full", "per_step": {"rows": 128}, "steps": steps}
    phases = [
        {**shared, "name": name, "objective": objective}
        for name, objective in zip(("then", "again"), rounds, strict=False)
    ]
    return [f"model={start}", f"phases={json.dumps(phases)}", "gates=[]"]


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Unlabeled rows beside few labeled ones.", arguments)
    train, test = _read("train.csv"), _read("test.csv")
    if given.quick:
        chosen = sorted({name for _, name in train})[:4]
        train, test = ([row for row in rows if row[1] in chosen] for rows in (train, test))
        train = [row for number, row in enumerate(train) if number % 4 == 0]
    out = given.out / f"semi-supervised{'-quick' if given.quick else ''}"
    found = []
    for seed in range(1, 2 if given.quick else 6):
        files = written(out / f"draw-{seed}", train, test, seed)
        own = [*files, f"seed={seed}"]
        start = ran("few-labels", [*own, *begun(given.quick)], out / f"start-{seed}").folder
        runs = [
            ran("few-labels", [*own, *overrides(method, start, given.quick)], out / f"{method.split()[0]}-{seed}")
            for method in METHODS
        ]
        found.append([finding(run, "classification.accuracy", "tuned").value for run in runs])
    control, *others = np.array(found).T
    rows = []
    for method, values in zip(list(METHODS)[1:], others, strict=True):
        gain, low, high = mean_interval(values - control)
        title = f"Banking77, {EACH} labels a class: accuracy with {method} (other: labeled rows alone; value: gain)"
        rows.append(Measured(title, float(values.mean()), float(control.mean()), gain, low, high))
        if low is not None:
            rows.append(Measured(f"{method}: the lower bound of that gain's interval", low, None, low, floor=0.0))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
