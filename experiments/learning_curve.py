"""Does a learning curve foretell what more rows bring? Told from part of the rows, held against twice as many.

    python -m experiments.learning_curve [--quick] [--json FILE]

Of Banking77 (77 classes), CLINC150 (150) and two sets of sentences about films (2 each), a part of the training rows is
drawn by seed, the curve of `luthier data curve` is made of it, and its forecast for twice as many rows is held against
the same classifier, of the same rate, on twice as many: those rows and others. The vectors are the encoder's. A
forecast is right where its 95 % interval holds what came; its error stands beside that of the plain guess that the next
doubling brings what the last one did.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured, finish
from luthier.data.curve import LearningCurve, curve_of
from luthier.functional.softmax import fitted

from ._features import features
from ._recipes import arguments_of, outside

__all__ = ["main"]

SEEDS = 4
SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Parts of the training rows that curves are made of; the last is told from a half for all."""
TEST = 2000

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Labeled = tuple[Floats, Ints]


def sets(quick: bool, folder: Path) -> Iterator[tuple[str, Labeled, Labeled]]:
    """Name, training rows and test rows (vectors and classes) of each set."""
    banking = []
    for part in ("train", "test"):
        with outside(f"tasks/banking77/{part}.csv").open(encoding="utf-8", newline="") as file:
            banking.append([(row["text"], row["category"]) for row in csv.DictReader(file)])
    yield "Banking77", *_embedded(banking, folder)
    for name in ("sentence-polarity",) if quick else ("sentence-polarity", "subjectivity"):
        with outside(f"tasks/{name}.jsonl").open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        ((vectors, labels),) = _embedded([[(str(line["text"]), str(line["label"])) for line in lines]], folder)
        order = np.random.default_rng(17).permutation(len(lines))
        train, test = order[TEST:], order[:TEST]
        yield name, (vectors[train], labels[train]), (vectors[test], labels[test])
    if not quick:
        queries = json.loads(outside("tasks/clinc150/data_full.json").read_text(encoding="utf-8"))
        yield "CLINC150", *_embedded([queries["train"], queries["test"]], folder)


def _embedded(parts: Sequence[Sequence[Sequence[str]]], folder: Path) -> list[Labeled]:
    """Vectors and classes of each part; classes are numbered as the first part has them."""
    classes = sorted({label for _, label in parts[0]})
    return [
        (features([text for text, _ in part], folder), np.array([classes.index(label) for _, label in part]))
        for part in parts
    ]


def came(curve: LearningCurve, train: tuple[Floats, Ints], test: tuple[Floats, Ints], order: Ints, draws: int) -> float:
    """The mean error of the same classifier on twice the rows."""
    some = order[: 2 * curve.sizes[-1]]
    errors = []
    for seed in range(draws):
        epochs = max(20, -(-1500 * 64 // len(some)))
        weights, biases = fitted(train[0][some], train[1][some], int(train[1].max()) + 1, epochs, seed, curve.rate)
        errors.append(1 - float(((test[0] @ weights.T + biases).argmax(axis=1) == test[1]).mean()))
    return float(np.mean(errors))


def forecasts(train: tuple[Floats, Ints], test: tuple[Floats, Ints], seeds: int) -> Iterator[dict[str, float]]:
    """Of each part and seed: the gain that was foretold, its bounds, the plain guess, and the gain that came."""
    for share in SHARES:
        for seed in range(seeds):
            order = np.random.default_rng([seed, 47]).permutation(len(train[1]))
            some = order[: int(share * len(order))]
            curve = curve_of(train[0][some], train[1][some], [str(row) for row in some.tolist()], test, seed=seed)
            now = float(curve.means[-1])
            twice = curve.more[0]
            size = len(some) / 2
            before = float(np.interp(np.log(size), np.log(curve.sizes), curve.means))
            yield {
                "foretold": twice.gain,
                "low": twice.gain_low,
                "high": twice.gain_high,
                "guess": before - now,
                "came": now - came(curve, train, test, order, 3),
                "holds": float(curve.holds),
            }


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Learning curves held against what more rows brought.", arguments)
    results: list[Measured] = []
    every: list[dict[str, float]] = []
    for name, train, test in sets(given.quick, given.out):
        found = list(forecasts(train, test, 1 if given.quick else SEEDS))
        every += found
        for one in found:
            print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in one.items()), flush=True)
        results += rows_of(name, found)
    results += rows_of("all sets", every)
    return finish(results, given.json)


def rows_of(name: str, found: Sequence[dict[str, float]]) -> list[Measured]:
    """The forecasts of a set: mean error beside that of the guess, and how many intervals held what came."""
    of = {key: np.array([one[key] for one in found]) for key in found[0]}
    ours, guess = np.abs(of["foretold"] - of["came"]).mean(), np.abs(of["guess"] - of["came"]).mean()
    right = (of["low"] <= of["came"]) & (of["came"] <= of["high"])
    title = f"{name}, {len(found)} curves"
    return [
        Measured(f"{title}: gain of twice the rows (other: foretold; value: difference)", float(of["came"].mean()),
                 float(of["foretold"].mean()), float((of["came"] - of["foretold"]).mean())),
        Measured(f"{title}: mean error of the foretold gain (other: of the last doubling's)", float(ours), float(guess),
                 float(ours / guess)),
        Measured(f"{title}: share of intervals that hold the gain", float(right.mean()), None, float(right.mean())),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
