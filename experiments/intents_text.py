"""Does the embedded language model name intents after tuning, as text to text? Banking77's test set.

    python -m experiments.intents_text [--quick] [--json FILE]

The recipe `intents-text` on the published split. The control is logistic regression on counts of words and pairs of
words, its strength chosen on a tenth of the training data: what a small language model is up against.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Measured, finish

from ._recipes import arguments_of, effect, finding, outside, ran

__all__ = ["main"]

FLOOR = 0.85
SECONDS = 900


def word_counts(train: Path, test: Path) -> float:
    """Test accuracy of logistic regression on tf-idf of words and pairs of words."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def read(path: Path) -> tuple[list[str], np.ndarray]:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [row["text"] for row in rows], np.array([row["category"] for row in rows])

    def fitted(texts: Sequence[str], labels: np.ndarray, strength: float) -> object:
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        return make_pipeline(vectors, LogisticRegression(C=strength, max_iter=300)).fit(texts, labels)

    x, y = read(train)
    order = np.random.default_rng(0).permutation(len(x))
    held, kept = order[: len(x) // 10], order[len(x) // 10 :]
    scores = {
        strength: fitted([x[at] for at in kept], y[kept], strength).score([x[at] for at in held], y[held])  # type: ignore[attr-defined]
        for strength in (3.0, 30.0)
    }
    return float(fitted(x, y, max(scores, key=scores.__getitem__)).score(*read(test)))  # type: ignore[attr-defined]


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Intents named in words by the embedded language model.", arguments)
    train, test = outside("tasks/banking77/train.csv"), outside("tasks/banking77/test.csv")
    quick = ["epochs=", "steps=4", "checks=[{text_match: {limit: 40}}]"] if given.quick else []
    folder = given.out / ("intents-text-quick" if given.quick else "intents-text")
    run = ran("intents-text", [f"data.train={train}", f"data.test={test}", *quick], folder)
    tuned, base = (finding(run, "text_match.exact", subject) for subject in ("tuned", "base"))
    control = word_counts(train, test)
    what = "Banking77 test: the right intent, in its exact words"
    rows = [
        Measured(
            f"{what} (other: logistic regression on words)",
            tuned.value,
            control,
            tuned.value,
            tuned.low,
            tuned.high,
            floor=None if given.quick else FLOOR,
        ),
        Measured(f"{what}, before tuning", base.value, None, base.value, base.low, base.high),
        *effect(run, "text_match.token_f1", "Banking77 test", floor=False),
    ]
    stages = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    seconds = sum(stage["seconds"] for stage in stages.values())
    name = f"Banking77 as text: seconds of the run (value: {SECONDS} over ours)"
    rows.append(Measured(name, seconds, None, SECONDS / seconds, floor=None if given.quick else 1.0))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
