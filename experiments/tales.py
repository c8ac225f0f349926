"""Does tuning the embedded model on questions about tales make its answers better? FairytaleQA's test split.

    python -m experiments.tales [--quick] [--json FILE]

The recipe `tales`: base and tuned answer the same 1,007 questions; tales are resampled whole. The control answers with
the passage's sentence that shares most words with the question: what reading must beat.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Measured, finish
from luthier.functional.text_match import normalize, token_f1

from ._recipes import arguments_of, effect, finding, outside, ran

__all__ = ["copied", "main"]

FLOOR = 0.216
"""Token F1 of the control as it was first measured, with other rules for sentences and words than ours."""


def copied(passage: str, question: str) -> str:
    """The passage's sentence that shares most words with the question; the first of equals."""
    asked = set(normalize(question).split())
    sentences = [sentence for sentence in re.split(r"(?<=[.!?\"])\s+", passage) if sentence.strip()]
    return max(sentences, key=lambda sentence: len(asked & set(normalize(sentence).split())), default="")


def control(test: Path) -> float:
    """Mean token F1 of `copied` over the questions of a file."""
    with test.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return sum(token_f1(copied(row["context"], row["question"]), row["answers"]) for row in rows) / len(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Question answering on FairytaleQA, base against tuned.", arguments)
    splits = {"train": "train", "validation": "val", "test": "test"}
    files = {name: outside(f"tasks/fairytaleqa/{file}.jsonl") for name, file in splits.items()}
    data = [f"data.{name}={file}" for name, file in files.items()]
    quick = ["epochs=", "steps=4", "checks.text_match={text_match: {limit: 40}}"] if given.quick else []
    run = ran("tales", [*data, *quick], given.out / ("tales-quick" if given.quick else "tales"))
    what = "FairytaleQA test"
    tuned = finding(run, "text_match.token_f1", "tuned")
    rows = [
        Measured(
            f"{what}: token F1 (other: the sentence that shares most words with the question)",
            tuned.value,
            control(files["test"]),
            tuned.value,
            tuned.low,
            tuned.high,
            floor=None if given.quick else FLOOR,
        ),
        *effect(run, "text_match.token_f1", what, floor=not given.quick),
        *effect(run, "text_match.rouge_l", what, floor=False),
        *effect(run, "forgetting.perplexity", "general text", floor=False),
    ]
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
