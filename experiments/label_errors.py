"""Are planted wrong labels found, and is what they cost won back? Banking77 with a tenth of its training labels wrong.

    python -m experiments.label_errors [--quick] [--json FILE]

Wrong labels are drawn by seed, evenly over the other 76 classes. The step `label_errors` judges rows by vectors of
`embedded:minilm`; beside it stands cleanlab as its documentation has it: `find_label_issues` on the probabilities of a
cross-validated logistic regression, here on the same vectors. Then logistic regression on these vectors is fitted to
the labels as they are, without the rows that the step drops, and with the labels that it puts right, and held against
the same on the true labels. Means over draws with 95 % intervals (Student's t). Needs the extra `bench`.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured, finish
from luthier.data.strata import drawn
from luthier.functional.confident import label_errors, out_of_sample

from ._features import features
from ._recipes import arguments_of, outside
from ._seeds import mean_interval

__all__ = ["main"]

WRONG = 0.1
DRAWS = 5
FOLDS = 5
EPOCHS = 20
STRENGTH = 10.0
"""C of the logistic regression: the best of 1, 3, 10 and 30 on a tenth of the true training labels."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def spoiled(labels: Ints, seed: int) -> Ints:
    """The labels, a tenth of them wrong."""
    draw = np.random.default_rng([seed, 7])
    count = int(labels.max()) + 1
    rows = draw.permutation(len(labels))[: round(WRONG * len(labels))]
    told = labels.copy()
    told[rows] = (labels[rows] + draw.integers(1, count, len(rows))) % count
    return told


def ours(vectors: Floats, told: Ints, seed: int) -> tuple[NDArray[np.bool_], Ints]:
    """What the step finds, with its defaults."""
    folds = np.array([int(drawn(seed, f"train:{row}") * FOLDS) for row in range(len(told))])
    return label_errors(told, out_of_sample(vectors, told, folds, epochs=EPOCHS, seed=seed))


def peers(vectors: Floats, told: Ints) -> NDArray[np.bool_]:
    """What cleanlab finds."""
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=STRENGTH, max_iter=200)
        chances = cross_val_predict(model, vectors, told, cv=FOLDS, method="predict_proba")
    found: NDArray[np.bool_] = find_label_issues(told, chances, n_jobs=1)
    return found


def accuracy(train: tuple[Floats, Ints], test: tuple[Floats, Ints]) -> float:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(LogisticRegression(C=STRENGTH, max_iter=200).fit(*train).score(*test))


def one_draw(train: tuple[Floats, Ints], test: tuple[Floats, Ints], seed: int) -> Mapping[str, float]:
    """Precision and recall of both, and what the labels are worth before and after."""
    vectors, labels = train
    told = spoiled(labels, seed)
    planted = told != labels
    wrong, likely = ours(vectors, told, seed)
    theirs = peers(vectors, told)
    found = {
        "recall": wrong[planted].mean(),
        "precision": planted[wrong].mean(),
        "their recall": theirs[planted].mean(),
        "their precision": planted[theirs].mean(),
        "as they are": accuracy((vectors, told), test),
        "dropped": accuracy((vectors[~wrong], told[~wrong]), test),
        "put right": accuracy((vectors, np.where(wrong, likely, told)), test),
    }
    return {name: float(value) for name, value in found.items()}


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
    rows = []
    for name in ("recall", "precision"):
        mean, low, high = mean_interval(of[name] - of[f"their {name}"])
        title = f"Banking77, {WRONG:.0%} wrong labels: {name} (other: cleanlab; value: difference)"
        floor = None if given.quick else 0.0
        rows.append(Measured(title, float(of[name].mean()), float(of[f"their {name}"].mean()), mean, low, high, floor))
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
