"""Does fine-tuning a small uncased encoder find names that a linear model on its frozen body misses? WNUT17, wikigold.

    python -m experiments.entities [--quick] [--json FILE]

The recipe `entities` on each set, F1 of whole spans with 95 % intervals over sentences. Controls: the recipe's own
base, the body frozen and only the head trained; and logistic regression on each word's features (adaptation classic),
of the last layer, of that in the middle, and of the first. WNUT17 has its published split, made of kinds of names that
its training data lacks; of wikigold a quarter of the sentences is set aside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Measured, finish
from luthier.evaluate.compare import compare
from luthier.pipeline import Run

from ._recipes import arguments_of, effect, outside, ran

__all__ = ["main"]

WNUT17 = "tasks/ner/WNUT17/CONLL-format/data"
WIKIGOLD = "tasks/ner/wikigold/CONLL-format/data/wikigold.conll.txt"


def _some(relative: str, *, quick: bool) -> str:
    """A file of the outside data as a recipe names it; quick: its first rows."""
    return json.dumps({"path": str(outside(relative)), "limit": 1000}) if quick else str(outside(relative))


def _beside(linear: Run, tuned: Run, what: str) -> Measured:
    """F1 of both runs on the same sentences, and the tuned one's gain with its interval."""
    found = [one for one in compare(linear.folder, tuned.folder) if one.metric == "f1" and one.group is None]
    other, ours, gain = found
    return Measured(what, ours.value, other.value, gain.value, gain.low, gain.high)


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Fine-tuning an encoder to find names, beside a head on its frozen body.", arguments)
    sets = {
        "WNUT17": [
            f"data.train={_some(f'{WNUT17}/train/wnut17train.conll', quick=given.quick)}",
            f"data.validation={outside(f'{WNUT17}/dev/emerging.dev.conll')}",
            f"data.test={outside(f'{WNUT17}/test/emerging.test.annotated')}",
        ],
        "wikigold": [f"data.train={_some(WIKIGOLD, quick=given.quick)}", "data.test=0.25"],
    }
    short = ["epochs=", "steps=12", "watch.rows=64"] if given.quick else []
    rows = []
    for name, data in sets.items():
        folder = given.out / f"entities-{name.lower()}{'-quick' if given.quick else ''}"
        run = ran("entities", [*data, *short], folder)
        rows += effect(run, "tagging.f1", f"{name}, names found (other: body frozen)", floor=not given.quick)
        for layer in (6,) if given.quick else (6, 3, 1):
            linear = {"name": "tag", "objective": "tag", "adaptation": {"classic": {"layer": layer}}, "max_length": 128}
            frozen = ran("entities", [*data, f"phases={json.dumps([linear])}", "gates=[]"], Path(f"{folder}-{layer}"))
            rows.append(_beside(frozen, run, f"{name}, names found (other: logistic regression on layer {layer})"))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
