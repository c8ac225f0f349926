"""What counterfactuals do to a classifier whose training rows tie a class to a gender.

Sentences of film reviews (sentence-polarity): of those with words of one gender, nine in ten of the positive ones are
turned to the male form and nine in ten of the negative ones to the female form, in training alone. A logistic
regression on words is trained on these rows as they are, with counterfactuals added, with half of the rows replaced,
and, for control, with copies of the same number of rows. Measured on held-out sentences: how many are classified
differently once swapped (counterfactual token fairness: Garg et al. 2019, arXiv:1809.10610), and how many rightly.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured
from experiments._seeds import mean_interval
from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger
from luthier.data.swaps.swap import Swapper

__all__ = ["effects"]

TIED = 0.9
ARMS = ("as they are", "copies of as many rows", "counterfactuals added", "half of the rows replaced")
_MALE = frozenset(
    (
        "he",
        "him",
        "his",
        "himself",
        "man",
        "men",
        "boy",
        "boys",
        "father",
        "son",
        "brother",
        "king",
        "husband",
        "uncle",
        "guy",
        "guys",
    )
)
_FEMALE = frozenset(
    (
        "she",
        "her",
        "hers",
        "herself",
        "woman",
        "women",
        "girl",
        "girls",
        "mother",
        "daughter",
        "sister",
        "queen",
        "wife",
        "aunt",
        "gal",
        "gals",
    )
)


def effects(data: Path, swapper: Swapper, seeds: Sequence[int]) -> list[Measured]:
    """Rows of the table: each arm's flips and accuracy, and what counterfactuals change against the copies."""
    lines = (data / "tasks/sentence-polarity.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    swapped = [swapper.swap(row["text"]) for row in rows]
    found = np.array([_one_seed(rows, swapped, seed) for seed in seeds])  # [seeds, arms, 2]
    table: list[Measured] = []
    for at, arm in enumerate(ARMS):
        for measure, what in enumerate(("flipped by a swap", "accuracy")):
            value, low, high = mean_interval(found[:, at, measure])
            table.append(Measured(f"{arm}: {what}", value, None, value, low, high))
    for at in (2, 3):
        fewer, low, high = mean_interval(found[:, 1, 0] - found[:, at, 0])
        ours, other = float(found[:, at, 0].mean()), float(found[:, 1, 0].mean())
        table.append(Measured(f"{ARMS[at]}: fewer flips than the copies", ours, other, fewer, low, high))
        if low is not None:
            table.append(Measured(f"{ARMS[at]}: distance of that interval from zero", low, None, low, floor=0))
    return table


def _one_seed(rows: Sequence[dict[str, str]], swapped: Sequence[str], seed: int) -> list[tuple[float, float]]:
    """[flips, accuracy] of each arm."""
    order = list(range(len(rows)))
    chance = random.Random(seed)
    chance.shuffle(order)
    held, used = order[: len(order) // 5], order[len(order) // 5 :]
    train = []
    for at in used:
        text, label = rows[at]["text"], rows[at]["label"]
        lean = _lean(text)
        if lean and chance.random() < TIED and (lean > 0) != (label == "positive"):
            text = swapped[at]
        train.append(Example(f"p:{at}", {"text": text}, Origin("sentence-polarity", at + 1), label))
    added = _stepped(train, seed, "add")
    extra = len(added) - len(train)
    tied = [row for row in train if _lean(str(row.parts["text"]))]
    copies = [*train, *(tied * (extra // max(1, len(tied)) + 1))[:extra]]
    arms = (train, copies, added, _stepped(train, seed, "both-halves"))
    spoken = [at for at in held if swapped[at] != rows[at]["text"]]
    return [_measured(arm, rows, swapped, held, spoken) for arm in arms]


def _stepped(train: Sequence[Example], seed: int, mode: str) -> list[Example]:
    context = StepContext("train", seed, Ledger().page("train", "counterfactuals"))
    return list(build("steps", {"counterfactuals": {"mode": mode}}).run(train, context))


def _lean(text: str) -> int:
    words = text.lower().split()
    return sum(word in _MALE for word in words) - sum(word in _FEMALE for word in words)


def _measured(
    arm: Sequence[Example],
    rows: Sequence[dict[str, str]],
    swapped: Sequence[str],
    held: Sequence[int],
    spoken: Sequence[int],
) -> tuple[float, float]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer: Any = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    model: Any = LogisticRegression(C=3.0, max_iter=300)
    model.fit(vectorizer.fit_transform([str(row.parts["text"]) for row in arm]), [row.target for row in arm])

    def predicted(texts: Sequence[str]) -> NDArray[Any]:
        return np.asarray(model.predict(vectorizer.transform(texts)))

    flips = predicted([rows[at]["text"] for at in spoken]) != predicted([swapped[at] for at in spoken])
    right = predicted([rows[at]["text"] for at in held]) == np.array([rows[at]["label"] for at in held])
    return float(flips.mean()), float(right.mean())
