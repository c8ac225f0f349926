"""Writes the letters of the recipes "few-labels" and "few-shot": what a customer wants done, told of few of them.

    python tools/make_intent_data.py    rewrites shop-intents.jsonl, shop-intents-test.jsonl and shop-intents-few.jsonl,
                                        byte for byte the same

The letters are the first ones that customers write to the repair shop of make_demo_data.py, others than those of the
demo. Somebody at the shop has read the first few and noted what each is about: LABELED of each kind of work has a
label, all others have none. In the second file, which is for measuring, every letter has one. The third has FEW others
of each kind, with labels.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from make_demo_data import CLASSES, Letter, letter, shingles

FOLDER = Path(__file__).parent.parent / "src/luthier/embedded/data"
SEED = 1727
"""Any number would do; this one fixes the files."""
LABELED, UNLABELED, TEST, FEW = 1, 640, 240, 2
"""Letters with a label of each kind of work; letters without one; letters to measure on; a few of each kind."""


def letters() -> list[Letter]:
    """Letters of one exchange about work that the shop takes on, no two more alike than 0.7 in their runs of words:
    first those that get a label, then the others, then those to measure on, then a few of each kind.
    """
    draw = random.Random(SEED)
    wanted = LABELED * len(CLASSES)
    first: list[Letter] = []
    others: list[Letter] = []
    few: list[Letter] = []
    labels: Counter[str] = Counter()
    seen: list[frozenset[tuple[str, ...]]] = []
    while len(first) < wanted or len(others) < UNLABELED + TEST or len(few) < FEW * len(CLASSES):
        new = letter(f"i{draw.randrange(400):03d}", draw)
        runs = shingles(asked(new))
        if new.work == "refer" or len(new.turns) > 2 or any(len(runs & old) >= 0.7 * len(runs | old) for old in seen):
            continue
        if labels[new.work] < LABELED:
            labels[new.work] += 1
            first.append(new)
        elif len(others) < UNLABELED + TEST:
            others.append(new)
        elif len(first) == wanted and labels[new.work] < LABELED + FEW:
            labels[new.work] += 1
            few.append(new)
        else:
            continue
        seen.append(runs)
    return first + others + sorted(few, key=lambda letter: letter.work)


def asked(item: Letter) -> str:
    """What the customer wrote."""
    return item.turns[0][1]


def lines(items: Sequence[Letter], name: str, labeled: int) -> str:
    """The lines of a file; the first `labeled` have a label."""
    rows = [
        {"id": f"{name}-{number:03d}", "text": asked(item), "label": item.work if number <= labeled else None}
        for number, item in enumerate(items, 1)
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def files() -> dict[str, str]:
    """The contents of the files, by name."""
    found, labeled = letters(), LABELED * len(CLASSES)
    train, rest = found[: labeled + UNLABELED], found[labeled + UNLABELED :]
    test, few = rest[:TEST], rest[TEST:]
    return {
        "shop-intents.jsonl": lines(train, "letter", labeled),
        "shop-intents-test.jsonl": lines(test, "test", len(test)),
        "shop-intents-few.jsonl": lines(few, "few", len(few)),
    }


def main() -> None:
    for name, text in files().items():
        (FOLDER / name).write_bytes(text.encode("utf-8"))
        print(f"{name}: {text.count(chr(10))} rows, {len(text.encode()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
