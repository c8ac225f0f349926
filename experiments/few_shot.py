"""Does tuning an encoder on eight texts of each class beat a linear model on its frozen features? Banking77.

    python -m experiments.few_shot [--quick] [--json FILE]

The recipe `few-shot` (contrast, then logistic regression) on 8 and on 5 rows of each of the 77 intents, for five draws,
accuracy on the whole test set. Controls on the same draws: logistic regression on the frozen features (adaptation
classic), and the nearest class name, for which no row is needed. Gains are paired over the draws. At last logistic
regression on the frozen features of the whole training set.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.record import Measured, finish

from ._recipes import arguments_of, finding, outside, ran
from ._seeds import mean_interval

__all__ = ["drawn", "main", "nearest_name"]

Rows = list[tuple[str, str]]
WHOLE = 0.925


def _read(name: str) -> Rows:
    with outside(f"tasks/banking77/{name}").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def drawn(rows: Rows, each: int, seed: int) -> Rows:
    """`each` rows of every class."""
    draw = random.Random(seed)
    of_class: dict[str, Rows] = defaultdict(list)
    for row in rows:
        of_class[row[1]].append(row)
    return [row for name in sorted(of_class) for row in draw.sample(of_class[name], each)]


def nearest_name(test: Rows) -> float:
    """Accuracy of the class whose name, in words, lies nearest to the text by the frozen encoder."""
    from luthier.models.embed import load_embedder

    embedder = load_embedder("embedded:minilm")
    names = sorted({name for _, name in test})
    known = embedder.embed([name.replace("_", " ").lower() for name in names])
    given = (embedder.embed([text for text, _ in test]) @ known.T).argmax(1)
    return float(np.mean([names[at] == name for at, (_, name) in zip(given, test, strict=True)]))


def _file(path: Path, rows: Rows) -> str:
    content = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        path.write_text(content, encoding="utf-8")
    return str(path)


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Few rows of each class: tuned by contrast, and linear on frozen features.", arguments)
    train, test = _read("train.csv"), _read("test.csv")
    if given.quick:
        chosen = sorted({name for _, name in train})[:6]
        train, test = ([row for row in rows if row[1] in chosen] for rows in (train, test))
    out = given.out / f"few-shot{'-quick' if given.quick else ''}"
    measured = f"data.test={_file(out / 'test.jsonl', test)}"
    frozen = ["phases=[{name: classify, objective: classify, adaptation: classic, max_length: 128}]", "gates=[]"]
    zero = nearest_name(test)
    rows = []
    for each in (8,) if given.quick else (8, 5):
        found = []
        for seed in range(1, 2 if given.quick else 6):
            few = f"data.train={_file(out / f'{each}-{seed}.jsonl', drawn(train, each, seed))}"
            tuned = ran("few-shot", [few, measured], out / f"tuned-{each}-{seed}")
            linear = ran("few-shot", [few, measured, *frozen], out / f"linear-{each}-{seed}")
            found.append([finding(run, "classification.accuracy", "tuned").value for run in (tuned, linear)])
        pairs = np.array(found)
        for other, values in (("logistic regression on frozen features", pairs[:, 1]), ("nearest class name", zero)):
            mean, low, high = mean_interval(pairs[:, 0] - values)
            title = f"Banking77, {each} rows a class (other: {other}; value: gain in accuracy)"
            rows.append(Measured(title, float(pairs[:, 0].mean()), float(np.mean(values)), mean, low, high))
            if low is not None:
                rows.append(Measured(f"{title}: the interval's lower bound", low, None, low, floor=0.0))
    if not given.quick:
        whole = ran("few-shot", [f"data.train={_file(out / 'whole.jsonl', train)}", measured, *frozen], out / "whole")
        accuracy = finding(whole, "classification.accuracy", "tuned").value
        title = "Banking77, logistic regression on frozen features of all training rows"
        rows.append(Measured(title, accuracy, None, accuracy, floor=WHOLE))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
