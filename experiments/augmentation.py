"""Does augmentation help where rows are scarce? Ten rows a class of Banking77, with and without each method.

    python -m experiments.augmentation [--quick] [--json FILE]

Ten rows of each of the 77 classes are drawn by seed; each step makes two variants of every row with its defaults, but
for what is said here. Logistic regression on the frozen features of the encoder is fitted to rows and variants and
measured on the whole test set; all fits have the strength that is best without augmentation (measured on the test set,
which favors the control). Effects are differences to the control of the same draw, means over draws with 95 % intervals
(Student's t; draws share test rows, so fresh test rows would vary more).

"The same rows again" are copies: what two more passes over the same rows do. "Real rows" are two more real rows for
each: what augmentation would be worth at best. `mask_substitution` writes with a masked language model that was tuned
from the encoder on CLINC150's queries, without their intents (`experiments/_words.py`). Mixup mixes the features and
classes of random pairs, two for each row (Zhang et al. 2018, alpha 0.2); it is no step, but what a parameter of
`classify` could do. `back_translation`, `paraphrase` and `self_instruct` are not measured: no model that could is here.

The same is done with the classifier that is tuned whole (objective classify), for the first draws alone, in as
many steps with variants as without: frozen features cannot show what variants teach an encoder.
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

import luthier
from benchmarks.record import Measured, finish
from luthier.core.component import build
from luthier.core.contracts import Step, StepContext
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger
from luthier.data.write import write_records

from ._features import ENCODER, features
from ._recipes import arguments_of, finding, outside
from ._seeds import mean_interval
from ._words import words_model

__all__ = ["main"]

EACH = 10
TIMES = 2
DRAWS = 10
TUNED = 3
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)
ALPHA = 0.2

Floats = NDArray[np.float32]
Set = tuple[Floats, NDArray[np.int64]]


def ways(words: Path) -> Mapping[str, Mapping[str, Any]]:
    """The steps that are tried, each with its parameters."""
    return {
        "token_edits": {},
        "typos": {},
        "mask_substitution": {"model": str(words)},
    }


def drawn_rows(labels: Sequence[str], seed: int, each: int = EACH) -> tuple[list[int], list[int]]:
    """Numbers of so many rows a class, in order, and of TIMES as many others of the same classes."""
    draw = np.random.default_rng([seed, 41])
    order = draw.permutation(len(labels)).tolist()
    some: list[int] = []
    others: list[int] = []
    for name in sorted(set(labels)):
        own = [row for row in order if labels[row] == name]
        some += own[:each]
        others += own[each : each * (1 + TIMES)]
    return sorted(some), sorted(others)


def examples(texts: Sequence[str], labels: Sequence[str], chosen: Sequence[int]) -> list[Example]:
    """The rows of these numbers."""
    return [Example(f"train:{row}", {"text": texts[row]}, Origin("train.csv", row + 1), labels[row]) for row in chosen]


def varied(rows: Sequence[Example], name: str, options: Mapping[str, Any], seed: int) -> list[Example]:
    """The variants that a step makes of the rows."""
    step = build("steps", {name: {"times": TIMES, **options}})
    assert isinstance(step, Step)
    context = StepContext("train", seed, Ledger().page("train", name))
    return [row for row in step.run(rows, context) if row.origin.synthetic]


def mixed(some: Set, seed: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.float64]]:
    """Mixed features; each comes with both classes, weighted by their shares."""
    draw = np.random.default_rng([seed, 43])
    count = TIMES * len(some[1])
    first, second = draw.integers(0, len(some[1]), (2, count))
    share = draw.beta(ALPHA, ALPHA, count)
    between = (share[:, None] * some[0][first] + (1 - share[:, None]) * some[0][second]).astype(np.float32)
    return np.concatenate([between] * 2), np.concatenate([some[1][first], some[1][second]]), np.r_[share, 1 - share]


def accuracy(train: Set, test: Set, strength: float, weights: NDArray[np.float64] | None = None) -> float:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(*train, sample_weight=weights)
    return float(model.score(*test))


def joined(some: Set, more: Set) -> Set:
    return np.concatenate([some[0], more[0]]), np.concatenate([some[1], more[1]])


def one_draw(
    given: Any, train: tuple[list[str], list[str], Floats], test: Set, words: Path, seed: int
) -> dict[str, float]:
    """Accuracy without augmentation ("none") and with each way."""
    texts, labels, vectors = train
    names = sorted(set(labels))
    chosen, others = drawn_rows(labels, seed)
    numbers = np.array([names.index(label) for label in labels])
    some = vectors[chosen], numbers[chosen]
    scores = {strength: accuracy(some, test, strength) for strength in STRENGTHS}
    strength = max(scores, key=lambda one: scores[one])
    found = {"none": scores[strength]}
    rows = examples(texts, labels, chosen)
    for way, options in ways(words).items():
        made = varied(rows, way, options, seed)
        more = features([row.text() for row in made], given.out), np.array([names.index(str(r.target)) for r in made])
        found[way] = accuracy(joined(some, more), test, strength)
    between, classes, shares = mixed(some, seed)
    weights = np.r_[np.ones(len(chosen)), shares]
    found["mixup"] = accuracy(joined(some, (between, classes)), test, strength, weights)
    again = (np.repeat(some[0], TIMES, axis=0), np.repeat(some[1], TIMES))
    found["the same rows again"] = accuracy(joined(some, again), test, strength)
    found["real rows"] = accuracy(joined(some, (vectors[others], numbers[others])), test, strength)
    return found


def tuned(given: Any, train: tuple[list[str], list[str], Floats], words: Path, seed: int) -> dict[str, float]:
    """Test accuracy of the encoder tuned whole on the rows of a draw, without and with each step."""
    texts, labels, _ = train
    chosen, _ = drawn_rows(labels, seed)
    file = given.out / f"augmentation-{seed}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_records(file, examples(texts, labels, chosen))
    found = {}
    for way, options in {"none": None, **ways(words)}.items():
        steps = [] if options is None else [{way: {"times": TIMES, **options}}]
        test = str(outside("tasks/banking77/test.csv"))
        data = {"train": str(file), "test": {"path": test, "columns": {"label": "category"}}, "steps": steps}
        recipe = {
            "name": "augmentation",
            "model": ENCODER,
            "data": data,
            "phases": [
                {
                    "objective": "classify",
                    "adaptation": {"full": {"head_scale": 10}},
                    "optimizer": {"adamw": {"lr": 2e-4, "weight_decay": 0.01}},
                    "schedule": {"linear": {"warmup": 0.1}},
                    "epochs": 24 if options is None else 24 // (1 + TIMES),
                    "per_step": {"rows": 64},
                    "max_length": 128,
                }
            ],
            "checks": ["classification"],
            "seed": seed,
        }
        run = luthier.run(recipe, out=given.out / f"augmentation-{seed}-{way}")
        found[way] = finding(run, "classification.accuracy", "tuned").value
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Ten rows a class, with and without each method of augmentation.", arguments)
    sets = []
    for name in ("train", "test"):
        with outside(f"tasks/banking77/{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if given.quick:
            kept = sorted({row["category"] for row in rows})[:12]
            rows = [row for row in rows if row["category"] in kept]
        texts, labels = [row["text"] for row in rows], [row["category"] for row in rows]
        sets.append((texts, labels, features(texts, given.out)))
    train, (_, wanted, vectors) = sets
    test = vectors, np.array([sorted(set(train[1])).index(label) for label in wanted])
    words = words_model(given.out, quick=given.quick)
    draws = []
    for seed in range(2 if given.quick else DRAWS):
        draws.append(one_draw(given, train, test, words, seed))
        print(f"draw {seed}: " + ", ".join(f"{way} {value:.4f}" for way, value in draws[-1].items()), flush=True)
    rows_of = [("frozen features", draws)]
    if not given.quick:
        rows_of.append(("tuned whole", [tuned(given, train, words, seed) for seed in range(TUNED)]))
    results = []
    for kind, found in rows_of:
        none = np.array([one["none"] for one in found])
        for way in [way for way in found[0] if way != "none"]:
            ours = np.array([one[way] for one in found])
            title = f"Banking77, {EACH} rows a class, {kind}: accuracy with {way} (other: none)"
            results.append(Measured(title, float(ours.mean()), float(none.mean()), *mean_interval(ours - none)))
    return finish(results, given.json)


if __name__ == "__main__":
    sys.exit(main())
