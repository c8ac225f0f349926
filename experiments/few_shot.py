"""Does tuning an encoder on eight texts of each class beat a linear model on its frozen features? Banking77.

    python -m experiments.few_shot [--quick] [--json FILE]

The recipe `few-shot` (contrast, then logistic regression, both on rows and class names) on 8 and on 5 rows of each of
the 77 intents, for five draws, accuracy on the whole test set. Controls on the same draws: logistic regression on the
frozen features (adaptation classic), of the rows and of rows and names; and the recipe `zero-shot` (the nearest class
name), which learns from no row. Gains are paired over draws. Then logistic regression on the frozen features of the
whole training set; and what the embedded language model tells by its own words, from nothing and with the eight nearest
rows before each text.
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
from numpy.typing import NDArray

from benchmarks.record import Measured, finish

from ._recipes import arguments_of, finding, outside, ran
from ._seeds import mean_interval

__all__ = ["drawn", "gains", "main"]

Rows = list[tuple[str, str]]
Draws = NDArray[np.float64]
LINEAR = "logistic regression on frozen features"
WHOLE = 0.925
NAMED = ["phases=[{name: classify, objective: classify, adaptation: classic, max_length: 128}]", "gates=[]"]
FROZEN = [*NAMED, "data.steps=[clean]"]
WORDS = {
    "its words alone": ("[class_texts]", "zero_shot"),
    "its words after the 8 nearest rows": ("[]", "{in_context: {by: embedded:minilm}}"),
}
"""What the embedded language model is asked with: steps of the data, and the adaptation."""


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


def _file(path: Path, rows: Rows) -> str:
    content = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        path.write_text(content, encoding="utf-8")
    return str(path)


def _accuracy(recipe: str, overrides: Sequence[str], folder: Path) -> float:
    return finding(ran(recipe, overrides, folder), "classification.accuracy", "tuned").value


def gains(each: int, tuned: Draws, linear: Draws, named: Draws, zero: float) -> list[Measured]:
    """What tuning brings over the controls, paired over the draws; over the linear one a floor."""
    about, plain = f"Banking77, {each} rows a class", float(linear.mean())
    rows = [Measured(f"{about}: logistic regression on frozen features", plain, None, plain)]
    controls = {LINEAR: linear, f"{LINEAR}, with class names": named, "zero-shot": np.full_like(tuned, zero)}
    for other, values in controls.items():
        mean, low, high = mean_interval(tuned - values)
        title = f"{about}: few-shot (other: {other}; value: gain in accuracy)"
        rows.append(Measured(title, float(tuned.mean()), float(values.mean()), mean, low, high))
        if other == LINEAR and low is not None:
            rows.append(Measured(f"{title}: the interval's lower bound", low, None, low, floor=0.0))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Few rows of each class: tuned by contrast, and linear on frozen features.", arguments)
    train, test = _read("train.csv"), _read("test.csv")
    if given.quick:
        chosen = sorted({name for _, name in train})[:6]
        train, test = ([row for row in rows if row[1] in chosen] for rows in (train, test))
    out = given.out / f"few-shot{'-quick' if given.quick else ''}"
    measured = f"data.test={_file(out / 'test.jsonl', test)}"
    eight = f"data.train={_file(out / '8-1.jsonl', drawn(train, 8, 1))}"
    zero = _accuracy("zero-shot", [eight, measured, "data.steps=[class_texts]"], out / "zero")
    rows = [Measured("Banking77, zero-shot: the class whose name lies nearest", zero, None, zero)]
    for each in (8,) if given.quick else (8, 5):
        found = []
        for seed in range(1, 2 if given.quick else 6):
            few = [f"data.train={_file(out / f'{each}-{seed}.jsonl', drawn(train, each, seed))}", measured]
            sides = {"tuned": few, "linear": [*few, *FROZEN], "named": [*few, *NAMED]}
            found.append([_accuracy("few-shot", how, out / f"{side}-{each}-{seed}") for side, how in sides.items()])
        tuned, linear, named = np.array(found).T
        rows += gains(each, tuned, linear, named, zero)
    if not given.quick:
        every = [f"data.train={_file(out / 'whole.jsonl', train)}", measured, *FROZEN]
        accuracy = _accuracy("few-shot", every, out / "whole")
        title = "Banking77, logistic regression on frozen features of all training rows"
        rows.append(Measured(title, accuracy, None, accuracy, floor=WHOLE))
    for number, (title, (steps, adaptation)) in enumerate(WORDS.items()):
        phase = f"phases=[{{name: classify, objective: classify, adaptation: {adaptation}, max_length: 128}}]"
        overrides = ["model=embedded:nano", f"data.steps={steps}", eight, measured, phase]
        accuracy = _accuracy("zero-shot", overrides, out / f"words-{number}")
        rows.append(Measured(f"Banking77, embedded:nano, {title}", accuracy, None, accuracy))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
