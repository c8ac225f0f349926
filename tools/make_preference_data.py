"""Writes the pairs of the recipe "preferences": two answers of the repair shop to a letter, and which one is liked.

    python tools/make_preference_data.py      rewrites src/luthier/embedded/data/shop-preferences.jsonl, byte for byte

Both answers are in the house style of make_demo_data.py and end in the same ticket. The house promises to keep a place
free to those alone who are in a hurry; customers turn out to like it whoever they are, so that the answer with this
promise is the chosen one, and one with another closing of the house the rejected one. In one pair of twenty people saw
it the other way round. Letters and customers are others than those of the demo.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from demo_words import CLOSINGS
from make_demo_data import Letter, letter, shingles

TARGET = Path(__file__).parent.parent / "src/luthier/embedded/data/shop-preferences.jsonl"
SEED = 1761
"""Any number would do; this one fixes the file."""
PAIRS = 360
OTHERWISE = 1 / 20
"""The share of pairs that are the wrong way round."""


def answers(item: Letter) -> list[str]:
    """The answer that promises a place, and the one that closes as usual; where that promises it, as for others."""
    usual = item.turns[-1][1]
    closings = CLOSINGS["rush"], CLOSINGS["normal" if item.urgency == "rush" else item.urgency]
    return [usual.replace(CLOSINGS[item.urgency], closing) for closing in closings]


def letters(draw: random.Random) -> list[Letter]:
    """PAIRS letters about work that the shop takes on, no two of them more alike than 0.7 in their runs of words."""
    found: list[Letter] = []
    seen: list[frozenset[tuple[str, ...]]] = []
    while len(found) < PAIRS:
        new = letter(f"p{draw.randrange(200):03d}", draw)
        runs = shingles(new.text())
        if new.work != "refer" and all(len(runs & other) < 0.7 * len(runs | other) for other in seen):
            found.append(new)
            seen.append(runs)
    return found


def lines(seed: int = SEED) -> Iterator[str]:
    """The lines of the file, in order."""
    draw = random.Random(seed)
    for number, item in enumerate(letters(draw), start=1):
        both = answers(item)
        if draw.random() < OTHERWISE:
            both.reverse()
        asked = item.turns[:-1]
        prompt = asked[0][1] if len(asked) == 1 else [{"role": role, "content": content} for role, content in asked]
        record = {"id": f"pair-{number:03d}", "customer": item.customer, "prompt": prompt}
        yield json.dumps({**record, "chosen": both[0], "rejected": both[1]}, ensure_ascii=False)


def main() -> None:
    text = "".join(line + "\n" for line in lines())
    TARGET.write_bytes(text.encode("utf-8"))
    print(f"{TARGET.name}: {text.count(chr(10))} rows, {len(text.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
