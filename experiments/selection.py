"""Do selected rows teach more than random ones? 30 % of sentence-polarity, chosen by each selector.

    python -m experiments.selection [--quick] [--json FILE]

10,662 sentences of film reviews, split by seed: a fifth is the test set, 500 rows are the target that `dsir` is given,
the rest is chosen from. The classifier is logistic regression on the encoder's frozen features, fitted on the rows that
a selector keeps, with the defaults of its step; `k_center` and `el2n` see the same features. The control is as many
random rows, the mean of five draws. Effects are differences in test accuracy to the control of the same split, means
over splits with 95 % intervals (Student's t; the splits share rows, so fresh data would vary more).

These rows come from one source and are clean. Selection is made for other cases, so two more are measured: a fifth of
the rows that are chosen from have the wrong class; and two thirds of them come from elsewhere (the plot
summaries of the subjectivity set, and Banking77), where the share of the chosen rows that are of reviews is told, of
`gradient_similarity` too, on the first splits alone: it reads the rows with the embedded language model, which saw
these sets while it was made, so that no class is asked of it.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured, finish
from luthier.core.contracts import StepContext
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger
from luthier.data.steps.gradient_similarity import GradientSimilarity
from luthier.functional.coreset import k_center
from luthier.functional.importance import bucket_counts, gumbel_top, log_ratios, log_weight
from luthier.functional.softmax import error_norms

from ._features import features
from ._recipes import arguments_of, outside
from ._seeds import mean_interval

__all__ = ["main"]

SHARE = 0.3
SPLITS = 8
RANDOM = 5
TARGET = 500
WRONG = 0.2
BUCKETS = 10_000
GRADIENT_SPLITS = 3
STRENGTH = 3.0
"""C of the logistic regression: the best of 0.3, 1, 3, 10 and 30 for random rows of a split."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def by_dsir(texts: Sequence[str], target: Sequence[str], count: int, seed: int) -> Ints:
    """The rows that are drawn by their likeness to the target."""
    ratios = log_ratios(bucket_counts(target, BUCKETS), bucket_counts(texts, BUCKETS))
    weights = np.array([log_weight(text, ratios) for text in texts])
    uniforms = np.random.default_rng([seed, 2]).uniform(size=len(texts))
    return np.flatnonzero(gumbel_top(weights, uniforms, count))


def by_all(
    texts: Sequence[str], vectors: Floats, classes: Ints, target: Sequence[str], seed: int
) -> Mapping[str, Ints]:
    """The rows that each selector keeps."""
    count = round(SHARE * len(texts))
    scores, right = error_norms(vectors, classes, epochs=10, fits=5, seed=seed)
    hardest = np.argsort(-scores, kind="stable")
    return {
        "dsir": by_dsir(texts, target, count, seed),
        "k_center": k_center(vectors, count)[0],
        "el2n": hardest[right[hardest]][:count],
        "el2n, skip: 0": hardest[:count],
        "el2n, prefer: easy": hardest[-count:],
    }


def accuracy(vectors: Floats, classes: Ints, chosen: Ints, test: tuple[Floats, Ints]) -> float:
    """Test accuracy after fitting on the chosen rows; a single class among them is predicted throughout."""
    from sklearn.linear_model import LogisticRegression

    if len(set(classes[chosen].tolist())) == 1:
        return float((test[1] == classes[chosen[0]]).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=STRENGTH, max_iter=200).fit(vectors[chosen], classes[chosen])
    return float(model.score(*test))


def one_split(texts: Sequence[str], vectors: Floats, classes: Ints, seed: int, wrong: float) -> dict[str, float]:
    """Test accuracy of each selector, of random rows, and of all rows."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(texts))
    test, target, pool = np.split(order, [len(texts) // 5, len(texts) // 5 + TARGET])
    told = classes[pool].copy()
    flipped = draw.permutation(len(pool))[: round(wrong * len(pool))]
    told[flipped] = 1 - told[flipped]
    held = (vectors[test], classes[test])
    some = [texts[row] for row in pool]
    chosen = by_all(some, vectors[pool], told, [texts[row] for row in target], seed)
    found = {name: accuracy(vectors[pool], told, rows, held) for name, rows in chosen.items()}
    count = round(SHARE * len(pool))
    drawn = [accuracy(vectors[pool], told, draw.permutation(len(pool))[:count], held) for _ in range(RANDOM)]
    found["random"] = float(np.mean(drawn))
    found["all rows"] = accuracy(vectors[pool], told, np.arange(len(pool)), held)
    return found


def by_gradient(texts: Sequence[str], target: Sequence[str], seed: int) -> Ints:
    """The rows whose gradients point where the target's do."""

    def example(number: int, text: str) -> Example:
        return Example(f"row:{number}", {"text": text}, Origin("rows.jsonl", number + 1))

    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "target.jsonl"
        wanted.write_text("".join(json.dumps({"text": text}) + "\n" for text in target), encoding="utf-8")
        step = GradientSimilarity(target=str(wanted), keep=SHARE)
        context = StepContext("train", seed, Ledger().page("train", "gradient_similarity"))
        kept = step.run([example(number, text) for number, text in enumerate(texts)], context)
        return np.array([row.origin.row - 1 for row in kept])


def found_among_others(
    texts: Sequence[str], others: Sequence[str], seed: int, *, gradients: bool = False
) -> tuple[float, float]:
    """Of rows of which a third are like the target, the share that are: among the chosen, and among all.

    They are chosen by DSIR, or by gradients.
    """
    draw = np.random.default_rng([seed, 3])
    order = draw.permutation(len(texts))
    target, alike = [texts[row] for row in order[:TARGET]], [texts[row] for row in order[TARGET:4000]]
    mixed = alike + [others[row] for row in draw.permutation(len(others))[: 2 * len(alike)]]
    chosen = by_gradient(mixed, target, seed) if gradients else by_dsir(mixed, target, round(SHARE * len(mixed)), seed)
    return float((chosen < len(alike)).mean()), len(alike) / len(mixed)


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Rows chosen by selectors, beside random ones.", arguments)
    rows = _lines("tasks/sentence-polarity.jsonl")
    texts, classes = [row["text"] for row in rows], np.array([int(row["label"] == "positive") for row in rows])
    with outside("tasks/banking77/train.csv").open(encoding="utf-8", newline="") as file:
        bank = [row["text"] for row in csv.DictReader(file)]
    others = [row["text"] for row in _lines("tasks/subjectivity.jsonl") if row["label"] == "objective"] + bank
    if given.quick:
        kept = np.random.default_rng(0).permutation(len(texts))[:1500]
        texts, classes = [texts[row] for row in kept], classes[kept]
    vectors = features(texts, given.out)
    splits = 2 if given.quick else SPLITS
    measured = []
    for name, wrong in (("clean rows", 0.0), ("a fifth with the wrong class", WRONG)):
        found = []
        for seed in range(splits):
            found.append(one_split(texts, vectors, classes, seed, wrong))
            told = ", ".join(f"{way} {100 * one:.1f}" for way, one in found[-1].items())
            print(f"{name}, {seed}: {told}", flush=True)
        for way in found[0]:
            if way != "random":
                ours, control = (np.array([one[key] for one in found]) for key in (way, "random"))
                title = f"test accuracy, {name}: {way} (other: random)"
                measured.append(
                    Measured(title, float(ours.mean()), float(control.mean()), *mean_interval(ours - control))
                )
    for way, count in (("dsir", splits), ("gradient_similarity", min(splits, GRADIENT_SPLITS))):
        gradients = way == "gradient_similarity"
        shares = np.array([found_among_others(texts, others, seed, gradients=gradients) for seed in range(count)])
        title = f"share of sentences of reviews, two thirds from elsewhere: {way} (other: random)"
        measured.append(Measured(title, *shares.mean(axis=0).tolist(), *mean_interval(shares[:, 0] - shares[:, 1])))
    return finish(measured, given.json)


def _lines(relative: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in outside(relative).read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
