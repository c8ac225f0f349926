"""Does fine-tuning a small encoder find answers in passages that a head on its frozen body misses? XQuAD in English.

    python -m experiments.questions [--quick] [--json FILE]

The recipe `questions` on 1,190 questions about 48 articles. The set is for evaluation and has no training part: it is
cut into five folds by article, and each fold is measured after training on the others. F1 and exact match; the change
is a mean over folds with its interval. The control is the recipe's own base: the body frozen, only the head trained.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Measured, finish

from ._recipes import arguments_of, finding, outside, ran
from ._seeds import mean_interval

__all__ = ["FOLDS", "folds", "main"]

XQUAD = "tasks/xquad/xquad.en.json"
FOLDS = 5

Articles = list[dict[str, Any]]


def folds(articles: Articles) -> list[tuple[Articles, Articles]]:
    """(training, test) articles: each article is tested once; the folds have as many articles, or one more."""
    order = list(articles)
    random.Random(1).shuffle(order)
    return [
        ([one for at, one in enumerate(order) if at % FOLDS != number], order[number::FOLDS]) for number in range(FOLDS)
    ]


def _file(path: Path, articles: Articles) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return str(path)


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Fine-tuning an encoder to find answers, beside a head on its frozen body.", arguments)
    out = given.out / f"questions{'-quick' if given.quick else ''}"
    articles: Articles = json.loads(outside(XQUAD).read_text(encoding="utf-8"))["data"]
    parts = folds(articles)
    short: list[str] = []
    if given.quick:
        parts = [(train[:6], test[:2]) for train, test in parts[:1]]
        short = ["epochs=1"]
    found: dict[str, list[tuple[float, float]]] = {"f1": [], "exact": []}
    for number, (train, test) in enumerate(parts, 1):
        files = [
            f"data.train={_file(out / f'train-{number}.json', train)}",
            f"data.test={_file(out / f'test-{number}.json', test)}",
        ]
        run = ran("questions", [*files, "gates=[]", *short], out / f"fold-{number}")
        for metric, values in found.items():
            name = f"question_answering.{metric}"
            values.append((finding(run, name, "tuned").value, finding(run, name, "base").value))
    rows = []
    for metric, values in found.items():
        pairs = np.array(values)
        mean, low, high = mean_interval(pairs[:, 0] - pairs[:, 1])
        title = f"XQuAD English, folds by article (other: body frozen): question_answering.{metric}"
        rows.append(Measured(title, float(pairs[:, 0].mean()), float(pairs[:, 1].mean()), mean, low, high))
        if low is not None:
            rows.append(Measured(f"{title}: the interval's lower bound", low, None, low, floor=0.0))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
