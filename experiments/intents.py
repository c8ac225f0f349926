"""Does fine-tuning an encoder beat a linear model on its frozen features? Banking77, full training and LoRA.

    python -m experiments.intents [--quick] [--json FILE]

The recipe `intents` on the published split, three seeds each; the control is logistic regression on mean-pooled
features of the same frozen encoder, its strength chosen on a tenth of the training data.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Measured, finish

from ._recipes import arguments_of, finding, outside, ran

__all__ = ["main"]

LORA = ["adaptation={lora: {rank: 16, head_scale: 5}}", "optimizer.adamw.lr=2e-3", "epochs=8"]
FLOOR = 0.925


def logistic_regression(train: Path, test: Path) -> float:
    """Test accuracy of logistic regression on the frozen encoder's mean-pooled features."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoModel, AutoTokenizer

    from luthier.models.embedded import embedded_folder

    folder = embedded_folder("embedded:minilm")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        features = []
        for start in range(0, len(rows), 64):
            texts = [row["text"] for row in rows[start : start + 64]]
            batch = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
            mask = batch["attention_mask"].unsqueeze(-1)
            features.append(((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(features), np.array([row["category"] for row in rows])

    x, y = read(train)
    order = np.random.default_rng(0).permutation(len(x))
    held, kept = order[: len(x) // 10], order[len(x) // 10 :]
    strengths = (1.0, 3.0, 10.0, 30.0, 100.0)
    scores = [LogisticRegression(C=c, max_iter=300).fit(x[kept], y[kept]).score(x[held], y[held]) for c in strengths]
    best = strengths[int(np.argmax(scores))]
    x_test, y_test = read(test)
    return float(LogisticRegression(C=best, max_iter=300).fit(x, y).score(x_test, y_test))


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Fine-tuning an encoder on Banking77 beside a linear model on its features.", arguments)
    train, test = outside("tasks/banking77/train.csv"), outside("tasks/banking77/test.csv")
    data = [f"data.train={train}", f"data.test={test}"]
    seeds = ["seed=[1,2]", "epochs=", "steps=4"] if given.quick else ["seed=[1,2,3]"]
    control = logistic_regression(train, test)
    rows = []
    for name, changes in (("full training", []), ("LoRA", LORA)):
        kind = "full" if not changes else "lora"
        folder = given.out / f"intents-{kind}{'-quick' if given.quick else ''}"
        run = ran("intents", [*data, *changes, *seeds], folder)
        found = finding(run, "classification.accuracy", "tuned")
        rows.append(
            Measured(
                f"Banking77 test accuracy, {name}, mean over seeds (other: logistic regression on frozen features)",
                found.value,
                control,
                found.value,
                found.low,
                found.high,
                floor=None if given.quick else FLOOR,
            )
        )
        rows.append(_time(name, folder))
    return finish(rows, given.json)


def _time(name: str, folder: Path) -> Measured:
    """The longest run of one seed, from the data to the report; resumed stages count once, as they were."""
    manifests = sorted(folder.glob("seeds/*/manifest.json"))
    seconds = [
        sum(stage["seconds"] for stage in json.loads(path.read_text(encoding="utf-8"))["stages"].values())
        for path in manifests
    ]
    what = f"Banking77 {name}: seconds of a run, longest of {len(seconds)} (base, training, measuring)"
    return Measured(what, max(seconds), None, max(seconds), min(seconds), max(seconds))


if __name__ == "__main__":
    sys.exit(main())
