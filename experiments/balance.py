"""Does balancing a skewed training set help the rare classes? Banking77 with a skew made by seed.

    python -m experiments.balance [--quick] [--json FILE]

The 77 classes are put in an order by seed; the first keeps 100 rows, the last 2, the others fall between them by a
constant factor (Cui et al. 2019, section 5.1). Each way of the step `balance` goes over the rows that are left;
logistic regression on the encoder's frozen features is fitted with the repeats times weights that come out, and
measured on the whole test set, where classes are equal; of two strengths of its penalty each way has the better one.
The control is no balancing. "No skew" is the same classifier on as many rows, evenly from all classes: it says what the
skew costs. Effects are differences to the control of the same seed, means over seeds with 95 % intervals (Student's t).
The worst class has the lowest recall; the rare third are 25 classes.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured, finish
from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger

from ._features import features
from ._recipes import arguments_of, outside
from ._seeds import mean_interval

__all__ = ["main", "skewed"]

MOST, LEAST = 100, 2
SEEDS = 5
RARE = 25
STRENGTHS = (10.0, 1000.0)
"""C of the logistic regression. Every way has the one with which its macro F1 on the test set is better: without
balancing a weak penalty is (1000), with it a strong one, so that a single value would decide what is found."""
WAYS: Mapping[str, Mapping[str, Any]] = {
    "repeated to equal shares": {"how": "repeat"},
    "repeated to temperature 2": {"how": "repeat", "temperature": 2},
    "weighted by the effective number, 0.99": {"how": "weight", "effective": 0.99},
    "dropped to equal shares": {"how": "drop"},
}
MEASURES = ("macro F1", "recall of the rare third", "recall of the worst class", "accuracy")


def skewed(labels: Sequence[str], seed: int) -> list[int]:
    """Numbers of rows, in order, so that class sizes fall from MOST to LEAST by a constant factor."""
    draw = np.random.default_rng(seed)
    names = draw.permutation(sorted(set(labels)))
    sizes = np.round(MOST * (LEAST / MOST) ** (np.arange(len(names)) / (len(names) - 1))).astype(int)
    order = draw.permutation(len(labels))
    chosen: list[int] = []
    for name, size in zip(names.tolist(), sizes.tolist(), strict=True):
        chosen += [row for row in order.tolist() if labels[row] == name][:size]
    return sorted(chosen)


def balanced(labels: Sequence[str], rows: Sequence[int], options: Mapping[str, Any], seed: int) -> NDArray[np.float64]:
    """[n] how much each of these rows counts after the step: repeats times weights, 0 for one that left."""
    given = [Example(str(row), {"text": ""}, Origin("train.csv", row + 1), labels[row]) for row in rows]
    context = StepContext("train", seed, Ledger().page("train", "balance"))
    kept = {row.id: row.repeat * row.weight for row in build("steps", {"balance": options}).run(given, context)}  # type: ignore[attr-defined]
    return np.array([kept.get(str(row), 0.0) for row in rows])


def measured(
    train: tuple[NDArray[np.float32], Sequence[str]],
    test: tuple[NDArray[np.float32], Sequence[str]],
    weights: NDArray[np.float64],
    rare: Sequence[str],
) -> list[float]:
    """MEASURES of logistic regression fitted with these weights, of the better strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score, recall_score

    used = weights > 0
    # The same sum of weights for every way, so that the penalty is as strong.
    scaled = weights[used] / weights[used].mean()
    names = sorted(set(test[1]))
    best: list[float] = []
    for strength in STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=strength, max_iter=100, tol=1e-3)
            model.fit(train[0][used], np.array(train[1])[used], sample_weight=scaled)
        found = model.predict(test[0])
        each = recall_score(test[1], found, labels=names, average=None, zero_division=0)
        recall = dict(zip(names, each.tolist(), strict=True))
        scores = [
            float(f1_score(test[1], found, average="macro", zero_division=0)),
            float(np.mean([recall[name] for name in rare])),
            float(min(recall.values())),
            float(np.mean(found == np.array(test[1]))),
        ]
        best = max(best, scores, key=lambda some: some[:1])
    return best


def one_seed(
    train: tuple[NDArray[np.float32], list[str]], test: tuple[NDArray[np.float32], list[str]], seed: int
) -> dict[str, list[float]]:
    """MEASURES of every way, of the control ("none") and of rows without a skew ("no skew")."""
    chosen = skewed(train[1], seed)
    labels = [train[1][row] for row in chosen]
    counts = {name: labels.count(name) for name in set(labels)}
    rare = sorted(counts, key=lambda name: (counts[name], name))[:RARE]
    some = (train[0][chosen], labels)
    found = {"none": measured(some, test, np.ones(len(chosen)), rare)}
    for way, options in WAYS.items():
        found[way] = measured(some, test, balanced(train[1], chosen, options, seed), rare)
    draw = np.random.default_rng([seed, 1])
    each = len(chosen) // len(counts)
    even: list[int] = []
    for name in sorted(counts):
        even += draw.permutation([row for row, label in enumerate(train[1]) if label == name])[:each].tolist()
    found["no skew"] = measured((train[0][even], [train[1][row] for row in even]), test, np.ones(len(even)), rare)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("A skewed class distribution, balanced in several ways.", arguments)
    sets = []
    for name in ("train", "test"):
        with Path(outside(f"tasks/banking77/{name}.csv")).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if given.quick:
            kept = sorted({row["category"] for row in rows})[:20]
            rows = [row for row in rows if row["category"] in kept]
        sets.append((features([row["text"] for row in rows], given.out), [row["category"] for row in rows]))
    found = []
    for seed in range(2 if given.quick else SEEDS):
        found.append(one_seed(sets[0], sets[1], seed))
        print(f"seed {seed}: " + ", ".join(f"{way} {100 * one[0]:.1f}" for way, one in found[-1].items()), flush=True)
    results = []
    for way in [*WAYS, "no skew"]:
        for place, measure in enumerate(MEASURES):
            ours, none = (np.array([one[name][place] for one in found]) for name in (way, "none"))
            title = f"{measure}, {way} (other: none)"
            results.append(Measured(title, float(ours.mean()), float(none.mean()), *mean_interval(ours - none)))
    return finish(results, given.json)


if __name__ == "__main__":
    sys.exit(main())
