"""Does fine-tuning a small uncased encoder find names that a head on its frozen body misses? WNUT17 and wikigold.

    python -m experiments.entities [--quick] [--json FILE]

The recipe `entities` on each set, F1 of whole spans with 95 % intervals over sentences. The control is the recipe's own
base: the body frozen, only the head trained. WNUT17 has its published split, made of kinds of names that its training
data lacks; of wikigold a quarter of the sentences is set aside.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.record import finish

from ._recipes import arguments_of, effect, outside, ran

__all__ = ["main"]

WNUT17 = "tasks/ner/WNUT17/CONLL-format/data"
WIKIGOLD = "tasks/ner/wikigold/CONLL-format/data/wikigold.conll.txt"


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Fine-tuning an encoder to find names, beside a head on its frozen body.", arguments)
    sets = {
        "WNUT17": [
            f"data.train={outside(f'{WNUT17}/train/wnut17train.conll')}",
            f"data.validation={outside(f'{WNUT17}/dev/emerging.dev.conll')}",
            f"data.test={outside(f'{WNUT17}/test/emerging.test.annotated')}",
        ],
        "wikigold": [f"data.train={outside(WIKIGOLD)}", "data.test=0.25"],
    }
    short = ["epochs=", "steps=12", "watch.rows=64"] if given.quick else []
    rows = []
    for name, data in sets.items():
        folder = given.out / f"entities-{name.lower()}{'-quick' if given.quick else ''}"
        run = ran("entities", [*data, *short], folder)
        rows += effect(run, "tagging.f1", f"{name}, names found (other: body frozen)", floor=not given.quick)
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
