"""Contrastive training: useful tokens a second, ours beside sentence-transformers' trainer.

    python -m benchmarks.contrast [--quick] [--threads N] [--json FILE]

Both train embedded:minilm, all weights, with AdamW, on pairs of Banking77's messages that share an intent, with
in-batch negatives, in the same order and steps: 64 pairs at once, and 512 pairs in parts of 64 with the vectors cached
(there CachedMultipleNegativesRankingLoss). Ours takes the dtype that pays on the machine; the peer runs in float32, its
default, and with its bf16 autocast. The clock runs from texts to the last step, tokenizing included. Every side trains
a fresh model in each turn, in a process of its own, in turn with the others, with the same number of threads and the
same settings of the allocator. Pairs of one intent that meet in a step are negatives to the peer and not to ours, so
the losses are near but not the same; both are told. Rates are by processor time, and by wall time too where the machine
was quiet.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._contrast_sides import ours, peer
from benchmarks._turns import compared, even_settings, outside_data, sides
from benchmarks.record import Measured, finish

__all__ = ["main", "pairs_of"]

MODEL = "embedded:minilm"
FLOOR = 2.5
PEERS = ("float32", "bfloat16")
WORKS = (("64 pairs a step", 64, False), ("512 pairs a step, vectors cached", 512, True))


def pairs_of(rows: Sequence[tuple[str, str]], count: int, seed: int = 1) -> list[tuple[str, str]]:
    """`count` pairs of different texts of one class, drawn from rows (text, class); no text comes twice."""
    draw = random.Random(seed)
    of_class: dict[str, list[str]] = defaultdict(list)
    for text, name in dict(rows).items():
        of_class[name].append(text)
    found = []
    for texts in of_class.values():
        draw.shuffle(texts)
        found += list(zip(texts[::2], texts[1::2], strict=False))
    draw.shuffle(found)
    return found[:count]


def banking() -> list[tuple[str, str]]:
    """The training messages of Banking77 with their intents."""
    with outside_data("tasks", "banking77", "train.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Contrastive training beside sentence-transformers: speed.")
    parser.add_argument("--quick", action="store_true", help="one step of each kind, one turn, no floor")
    parser.add_argument("--threads", type=int, default=None, help="of each side; default: one a core")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    threads = even_settings(given.threads)
    from luthier.models.embedded import embedded_folder

    folder = str(embedded_folder(MODEL))
    works: dict[str, Any] = {"ours": (ours, {"model": MODEL})}
    works |= {dtype: (peer, {"folder": folder, "dtype": dtype}) for dtype in PEERS}
    rows: list[Measured] = []
    with sides(works) as started:
        names = list(started)
        for name in names:  # every side's first turn touches its memory
            started[name].turn({"pairs": pairs_of(banking(), 32), "step": 32, "cached": False})
        for title, step, cached in WORKS:
            step = min(step, 128) if given.quick else step
            pairs = pairs_of(banking(), step * (1 if given.quick else 16 if not cached else 4))
            pairs = pairs[: len(pairs) // step * step]
            rounds = []
            for turn in range(1 if given.quick else 3):
                request = {"pairs": pairs, "step": step, "cached": cached}
                order = names[turn % len(names) :] + names[: turn % len(names)]
                rounds.append({name: started[name].turn(request) for name in order})
                told = ", ".join(
                    f"{name} {answer['tokens'] / answer['cpu']:,.0f} (loss {answer['loss']:.3f})"
                    for name, answer in rounds[-1].items()
                )
                print(f"  {title}: {told} tokens a processor second", flush=True)
            for other in PEERS:
                found = compared(f"{title}, {threads} threads, peer in {other}", rounds, other, FLOOR, threads)
                rows += [Measured(*list(vars(row).values())[:6]) for row in found] if given.quick else found
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
