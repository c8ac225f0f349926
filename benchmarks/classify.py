"""Training of a classifier: useful tokens a second, and with --accuracy the result, ours beside transformers' Trainer.

    python -m benchmarks.classify [--quick] [--threads N] [--accuracy] [--json FILE]

Both train all of embedded:minilm with a fresh head on Banking77's 10,003 training messages (77 classes), with the
values of the recipe `intents`: 128 rows a step, the same learning rates, decay and schedule, at most 128 tokens. The
peer pads each batch to its longest row; it is measured with and without bf16 and grouping by length, and compared at
its best. Grouping cuts batches of like lengths from fifty shuffled ones, so that one batch tells nothing: a turn is a
whole epoch. Each side trains in a process of its own, in turn, with the same number of threads and the same settings of
the allocator; useful tokens are those that are not padding, and rates are by processor time, and by wall time too where
the machine was quiet. Without grouping, both see the same rows in every step. With --accuracy both train for six epochs
to the end and name the classes of the 3,080 test messages; the interval is that of the paired difference, at 95 %.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._classify_sides import BATCH, messages, ours, peer
from benchmarks._turns import compared, even_settings, sides
from benchmarks.record import Measured, finish

__all__ = ["accuracy", "main"]

FLOOR = 2.5
NOISE = 0.01
"""Accuracy that ours may have less than the peer: twice the standard error of one side's on 3,080 texts."""
EPOCHS = 6
WAYS = {
    f"{'bf16' if bf16 else 'float32'}{', grouped' if grouped else ''}": {"bf16": bf16, "grouped": grouped}
    for bf16, grouped in itertools.product((False, True), repeat=2)
}


def best_way(steps: int, few: int) -> str:
    """The peer's way that makes the most useful tokens in a processor second, over so many steps.

    In float32 a `few` tell enough: it takes twice as long as in bf16 where that pays, and grouping gains no more there.
    """
    rates = {}
    for name, way in WAYS.items():
        measured = steps if way["bf16"] else few
        with sides({"other": (peer, {"steps": measured + 2, **way})}) as started:
            started["other"].turn(1)  # warms up
            answer = started["other"].turn(measured)
        rates[name] = answer["tokens"] / answer["cpu"]
        print(f"  peer, {name}: {rates[name]:,.0f} useful tokens per processor second", flush=True)
    return max(rates, key=lambda name: rates[name])


def measure(way: str, turns: int, steps: int) -> list[dict[str, dict[str, Any]]]:
    """Rounds of so many steps a side; who goes first changes with each."""
    total = turns * steps + 2
    works = {"ours": (ours, {"steps": total}), "other": (peer, {"steps": total, **WAYS[way]})}
    found = []
    with sides(works) as started:
        for side in started.values():
            side.turn(1)  # warms up
        for number in range(turns):
            names = list(started)[:: -1 if number % 2 else 1]
            found.append({name: started[name].turn(steps) for name in names})
            rates = ", ".join(f"{name} {answer['tokens'] / answer['wall']:,.0f}" for name, answer in found[-1].items())
            print(f"  turn {number + 1} of {turns}: {rates} tokens/s", flush=True)
    return found


def accuracy(named: Sequence[Sequence[int]], wanted: Sequence[int]) -> Measured:
    """The accuracies of ours and the peer's on the same texts, and their difference with its interval."""
    right = [[found == label for found, label in zip(side, wanted, strict=True)] for side in named]
    count = len(wanted)
    gains = [int(a) - int(b) for a, b in zip(*right, strict=True)]
    change = sum(gains) / count
    error = 1.96 * math.sqrt((sum(gain * gain for gain in gains) / count - change**2) / count)
    name = f"accuracy on {count:,} test texts after {EPOCHS} epochs (value: ours less the other's)"
    return Measured(name, sum(right[0]) / count, sum(right[1]) / count, change, change - error, change + error, -NOISE)


def train_both(way: str) -> Measured:
    """A whole training of each side."""
    steps = EPOCHS * (len(messages("train")) // BATCH)
    works = {"ours": (ours, {"steps": steps}), "other": (peer, {"steps": steps, **WAYS[way]})}
    with sides(works) as started:
        named = []
        for name, side in started.items():
            answer = side.turn(steps)
            named.append(side.turn("classes")["classes"])
            print(f"  {name}: {steps} steps in {answer['wall']:,.0f} s", flush=True)
    classes = sorted({label for _, label in messages("train")})
    return accuracy(named, [classes.index(label) for _, label in messages("test")])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Training of a classifier beside transformers' Trainer.")
    parser.add_argument("--quick", action="store_true", help="two turns of two steps, the peer in bf16")
    parser.add_argument("--threads", type=int, default=None, help="of each side; default: one a core")
    parser.add_argument("--accuracy", action="store_true", help="train both to the end as well, which takes long")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    threads = even_settings(given.threads)
    turns, steps = (2, 2) if given.quick else (3, len(messages("train")) // BATCH)
    way = "bf16" if given.quick else best_way(steps, 5)
    print(f"the peer at its best: {way}", flush=True)
    rounds = measure(way, turns, steps)
    title = f"Banking77, {turns} x {steps} steps, {threads} thread{'s' if threads > 1 else ''}, peer in {way}"
    rows = compared(title, rounds, "other", FLOOR, threads)
    return finish([*rows, *([train_both(way)] if given.accuracy else [])], given.json)


if __name__ == "__main__":
    sys.exit(main())
