"""Are planted wrong labels found, and is what they cost won back? Banking77 with a tenth of its training labels wrong.

    python -m experiments.label_errors [--quick] [--json FILE]

Wrong labels are drawn by seed: of any class, even over the other 76; or, as people confuse them, always the class whose
true rows are nearest. The step `label_errors` judges rows by vectors of `embedded:minilm`; beside it stands cleanlab as
its documentation has it: `find_label_issues` on the probabilities of a cross-validated logistic regression, here on the
same vectors; and, so that rule is held against rule, on the probabilities that the step has. Then logistic regression
on these vectors is fitted to the labels as they are, without the rows that the step drops, and with the labels that it
puts right, and held against the same on the true labels. Means over draws with 95 % intervals (Student's t). Needs the
extra `bench`.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured, finish
from luthier.data.steps.label_errors import LabelErrors
from luthier.data.strata import drawn
from luthier.functional.label_noise import label_errors, out_of_sample, stratified_folds, true_chances

from ._features import features
from ._recipes import arguments_of, outside
from ._seeds import mean_interval

__all__ = ["main"]

WRONG = 0.1
DRAWS = 5
STRENGTH = 10.0
"""C of the logistic regression: the best of 1, 3, 10 and 30 on a tenth of the true training labels."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def spoiled(labels: Ints, seed: int, other: Ints | None = None) -> Ints:
    """The labels, a tenth of them wrong: any other class, or the one that `other` [classes] names for each."""
    draw = np.random.default_rng([seed, 7])
    count = int(labels.max()) + 1
    rows = draw.permutation(len(labels))[: round(WRONG * len(labels))]
    told = labels.copy()
    told[rows] = (labels[rows] + draw.integers(1, count, len(rows))) % count if other is None else other[labels[rows]]
    return told


def nearest_classes(vectors: Floats, labels: Ints) -> Ints:
    """[classes] the class whose mean vector is nearest to that of each."""
    means = np.stack([vectors[labels == label].mean(axis=0) for label in range(int(labels.max()) + 1)])
    apart = np.linalg.norm(means[:, None] - means[None, :], axis=2)
    np.fill_diagonal(apart, np.inf)
    found: Ints = apart.argmin(axis=1)
    return found


def chances_of(vectors: Floats, told: Ints, seed: int) -> Floats:
    """The probabilities that the step has, with its defaults."""
    step = LabelErrors()
    folds = stratified_folds(told, [drawn(seed, f"train:{row}") for row in range(len(told))], step.folds)
    return out_of_sample(vectors, told, folds, epochs=step.epochs, seed=seed)


def peers_chances(vectors: Floats, told: Ints) -> Floats:
    """The probabilities of a cross-validated logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=STRENGTH, max_iter=200)
        chances: Floats = cross_val_predict(model, vectors, told, cv=LabelErrors().folds, method="predict_proba")
    return chances


def peers(told: Ints, chances: Floats) -> Bools:
    """What cleanlab finds."""
    from cleanlab.filter import find_label_issues

    found: Bools = find_label_issues(told, chances.astype(np.float64), n_jobs=1)
    return found


def told_apart(planted: Bools, found: Mapping[str, Bools]) -> dict[str, float]:
    """Recall and precision of each side, by "side recall" and "side precision"."""
    rates = {}
    for side, rows in found.items():
        rates[f"{side} recall"] = float(rows[planted].mean())
        rates[f"{side} precision"] = float(planted[rows].mean())
    return rates


def accuracy(train: tuple[Floats, Ints], test: tuple[Floats, Ints]) -> float:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(LogisticRegression(C=STRENGTH, max_iter=200).fit(*train).score(*test))


def one_draw(train: tuple[Floats, Ints], test: tuple[Floats, Ints], seed: int) -> Mapping[str, float]:
    """Recall and precision of the sides under both kinds of noise, and what labels are worth before and after."""
    vectors, labels = train
    near = spoiled(labels, seed, nearest_classes(vectors, labels))
    chances = chances_of(vectors, near, seed)
    true, theirs = true_chances(near, chances), peers(near, chances)
    own = true[np.arange(len(near)), near]
    as_many = own <= np.sort(own)[theirs.sum() - 1]
    confused = {"ours": label_errors(near, true)[0], "as many": as_many, "same": theirs}
    found = {f"near {name}": value for name, value in told_apart(near != labels, confused).items()}
    told = spoiled(labels, seed)
    chances = chances_of(vectors, told, seed)
    true, rows = true_chances(told, chances), np.arange(len(told))
    wrong, likely = label_errors(told, true)
    better = wrong & (true[rows, likely] > true[rows, told])
    sides = {"ours": wrong, "same": peers(told, chances), "peer": peers(told, peers_chances(vectors, told))}
    found |= told_apart(told != labels, sides)
    found["as they are"] = accuracy((vectors, told), test)
    found["dropped"] = accuracy((vectors[~wrong], told[~wrong]), test)
    found["put right"] = accuracy((vectors, np.where(better, likely, told)), test)
    return found


def found_rows(of: Mapping[str, NDArray[np.float64]], quick: bool) -> list[Measured]:
    """Recall and precision beside cleanlab's, with the floor that they are no lower; but where wrong labels are of the
    nearest class only for as many rows as cleanlab finds, the likeliest errors: the step itself takes fewer.
    """
    rows = []
    for side, other, against, kind, low in (
        ("ours", "peer", "cleanlab, on logistic regression", "", 0.0),
        ("ours", "same", "cleanlab, on the same probabilities", "", 0.0),
        ("near ours", "near same", "cleanlab, on the same probabilities", ", of the nearest class", None),
        ("near as many", "near same", "cleanlab, as many rows", ", of the nearest class", 0.0),
    ):
        for name in ("recall", "precision"):
            mine, theirs = of[f"{side} {name}"], of[f"{other} {name}"]
            title = f"Banking77, {WRONG:.0%} wrong labels{kind}: {name} (other: {against}; value: difference)"
            interval = mean_interval(mine - theirs)
            floor = None if quick else low
            rows.append(Measured(title, float(mine.mean()), float(theirs.mean()), *interval, floor))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Planted wrong labels: found, dropped, put right.", arguments)
    texts, labels = _rows("train")
    test_texts, test_labels = _rows("test")
    if given.quick:
        few = np.flatnonzero(labels < 12)
        texts, labels = [texts[row] for row in few], labels[few]
        few = np.flatnonzero(test_labels < 12)
        test_texts, test_labels = [test_texts[row] for row in few], test_labels[few]
    train, test = (features(texts, given.out), labels), (features(test_texts, given.out), test_labels)
    clean = accuracy(train, test)
    draws = []
    for seed in range(2 if given.quick else DRAWS):
        draws.append(one_draw(train, test, seed))
        print(f"draw {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in draws[-1].items()), flush=True)
    of = {name: np.array([draw[name] for draw in draws]) for name in draws[0]}
    rows = found_rows(of, given.quick)
    for name in ("dropped", "put right"):
        mean, low, high = mean_interval(of[name] - of["as they are"])
        title = f"test accuracy, found rows {name} (other: labels as they are; value: gain)"
        rows.append(Measured(title, float(of[name].mean()), float(of["as they are"].mean()), mean, low, high))
        if not given.quick and low is not None:
            rows.append(Measured(f"distance of that interval from zero, {name}", low, None, low, floor=0.0))
        share = (of[name] - of["as they are"]) / (clean - of["as they are"])
        title = f"share of the accuracy lost to wrong labels that is won back, {name} (other: accuracy of true labels)"
        rows.append(Measured(title, float(of[name].mean()), clean, *mean_interval(share)))
    return finish(rows, given.json)


def _rows(split: str) -> tuple[list[str], Ints]:
    with outside(f"tasks/banking77/{split}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["category"] for row in rows})
    return [row["text"] for row in rows], np.array([names.index(row["category"]) for row in rows])


if __name__ == "__main__":
    sys.exit(main())
