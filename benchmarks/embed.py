"""Embeddings of texts: useful tokens a second and exactness, ours beside sentence-transformers' encode.

    python -m benchmarks.embed [--quick] [--threads N] [--json FILE]

Both embed the same texts with embedded:minilm: Banking77's 13,083 customer messages (16 tokens on average) and 2,000
passages of FairytaleQA (200 tokens, cut at 256). Ours takes the dtype that pays on the machine; the peer runs in
float32, its default, and in bfloat16, each at its fastest batch size: sizes are doubled or halved, on the first part,
until both neighbors of the best have been tried. Texts are shuffled and dealt into parts; each part is embedded by
every side in turn, each in a process of its own, with the same number of threads and the same settings of the
allocator. Useful tokens are those that are not padding; rates are by processor time, and by wall time too where the
machine was quiet. The cosine is that of each text's vector with the peer's in float32, the least of all.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._embed_sides import ours, peer
from benchmarks._search import best_size
from benchmarks._turns import Side, compared, even_settings, outside_data, sides
from benchmarks.record import Measured, finish

__all__ = ["main", "rows_of"]

MODEL = "embedded:minilm"
FLOORS = {"float32": 3.5, "bfloat16": 1.25}
LEAST_COSINE = 0.999
BATCH = 32
"""Texts of the peer's batches by default."""

Rounds = list[dict[str, dict[str, Any]]]


def banking() -> list[str]:
    """All messages of Banking77."""
    found = []
    for name in ("train.csv", "test.csv"):
        with outside_data("tasks", "banking77", name).open(encoding="utf-8", newline="") as file:
            found += [row["text"] for row in csv.DictReader(file)]
    return found


def fairytales() -> list[str]:
    """The first 2,000 different passages of FairytaleQA's training part."""
    with outside_data("tasks", "fairytaleqa", "train.jsonl").open(encoding="utf-8") as file:
        return list(dict.fromkeys(json.loads(line)["context"] for line in file))[:2000]


def fastest(side: Side, texts: Sequence[str]) -> int:
    """The batch size at which a peer needs the least processor time; a size beyond all texts would change nothing."""

    def seconds(batch: int) -> float:
        return float(side.turn({"texts": texts, "batch": batch})["cpu"])

    seconds(BATCH)  # touches its memory for the first time
    return best_size(BATCH, seconds, lambda batch: batch < 2 * len(texts))


def measure(started: Mapping[str, Side], texts: Sequence[str], parts: int, batches: Mapping[str, int]) -> Rounds:
    """A round a part: the answers of all sides; who goes first changes with each round."""
    found: Rounds = []
    names = list(started)
    for part in range(parts):
        chosen = list(texts[part::parts])
        answers = {}
        for name in names[part % len(names) :] + names[: part % len(names)]:
            answers[name] = started[name].turn({"texts": chosen, "batch": batches.get(name)})
        found.append(answers)
        rates = ", ".join(f"{name} {answer['tokens'] / answer['wall']:,.0f}" for name, answer in answers.items())
        print(f"  part {part + 1} of {parts}: {rates} tokens/s", flush=True)
    return found


def rows_of(name: str, rounds: Rounds, batches: Mapping[str, int], threads: int) -> list[Measured]:
    """The workload's lines: rates beside each peer, and the least cosine."""
    rows = []
    for other, floor in FLOORS.items():
        rows += compared(f"{name}, peer in {other}, batches of {batches[other]}", rounds, other, floor, threads)
    least = {
        side: min(_least(round[side]["vectors"], round["float32"]["vectors"]) for round in rounds)
        for side in ("ours", "bfloat16")
    }
    row = f"{name}: least cosine with the peer's float32 (other: the peer's bfloat16; value: ours)"
    return [*rows, Measured(row, least["ours"], least["bfloat16"], least["ours"], floor=LEAST_COSINE)]


def _least(vectors: np.ndarray, others: np.ndarray) -> float:
    sizes = np.linalg.norm(vectors, axis=1) * np.linalg.norm(others, axis=1)
    return float(((vectors * others).sum(1) / sizes).min())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Embeddings beside sentence-transformers: speed and exactness.")
    parser.add_argument("--quick", action="store_true", help="400 messages and 40 passages, one batch size, two parts")
    parser.add_argument("--threads", type=int, default=None, help="of each side; default: one a core")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    threads = even_settings(given.threads)
    from luthier.models.embedded import embedded_folder

    folder = str(embedded_folder(MODEL))
    works: dict[str, Any] = {"ours": (ours, {"model": MODEL})}
    works |= {dtype: (peer, {"folder": folder, "dtype": dtype}) for dtype in FLOORS}
    rows: list[Measured] = []
    with sides(works) as started:
        for name, texts, few in (("Banking77", banking(), 400), ("FairytaleQA", fairytales(), 40)):
            random.Random(1).shuffle(texts)
            texts = texts[:few] if given.quick else texts
            parts = 2 if given.quick else 10
            batches = {dtype: BATCH if given.quick else fastest(started[dtype], texts[::parts]) for dtype in FLOORS}
            title = f"{name}, {len(texts):,} texts, {threads} thread{'s' if threads > 1 else ''}"
            print(f"{title}; the peer's batches: {batches}", flush=True)
            rounds = measure(started, texts, parts, batches)
            rows += rows_of(title, rounds, batches, threads)
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
