"""Near duplicates: what is found beside exact Jaccard similarity, and how fast, beside datasketch and rensa.

    python -m benchmarks.deduplicate [--quick] [--json FILE]

5,000 real documents (2,000 film reviews, 3,000 passages of tales), and 1,000 copies of some of them in which 0.5 to 6 %
of the words are others, so that their similarity to the original lies on both sides of the threshold, 0.8. Exact: the
Jaccard similarity of the sets of 3-word shingles, as strings, of all 18 million pairs. Recall is the share of pairs at
least 0.8 alike that are found; precision the share of found pairs that are. Every row that the step `deduplicate`
removes must be 0.8 alike to some row of its cluster.

Rates are documents a second of processor time, from the texts to the verified pairs; the sides take turns, each in a
process of its own with one thread (benchmarks._deduplicate_sides). Ours is numpy alone. rensa's signatures are computed
in Rust; it is measured where it is installed, and so is ours with its signatures: what such an extra would bring. All
these texts are in ASCII, where ours is fastest.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import lzma
import os
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._deduplicate_sides import RUST, THRESHOLD, shingles, work
from benchmarks._turns import even_settings, outside_data, sides
from benchmarks.record import Measured, finish
from luthier.core.component import build
from luthier.core.contracts import Step, StepContext
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger

__all__ = ["documents", "exact_pairs", "main", "measured", "planted", "rates"]

REVIEWS, PASSAGES, COPIES = 2000, 3000, 1000
EDITED = (0.005, 0.06)
RECALL, FASTER = 0.99, 6.0
NEAR = 0.82
"""Pairs from the threshold up to here are counted by themselves: banding misses most of what it misses there."""
Pairs = set[tuple[int, int]]


def documents() -> list[str]:
    """Real documents, all different."""
    reviews = lzma.decompress(outside_data("tasks", "movie-reviews.jsonl.xz").read_bytes()).decode("utf-8").splitlines()
    tales = outside_data("tasks", "fairytaleqa", "train.jsonl").read_text(encoding="utf-8").splitlines()
    found = [
        list(dict.fromkeys(json.loads(line)[key] for line in lines))[:count]
        for lines, key, count in ((reviews, "text", REVIEWS), (tales, "context", PASSAGES))
    ]
    return [*found[0], *found[1]]


def planted(originals: Sequence[str], count: int, seed: int = 5) -> list[str]:
    """The originals, and after them so many copies in which some words are replaced by words of other documents."""
    draw = random.Random(seed)
    vocabulary = [word for text in originals[:200] for word in text.split()]
    copies = []
    for _ in range(count):
        words = draw.choice(originals).split(" ")
        for place in draw.sample(range(len(words)), max(1, round(draw.uniform(*EDITED) * len(words)))):
            words[place] = draw.choice(vocabulary)
        copies.append(" ".join(words))
    return [*originals, *copies]


def exact_pairs(texts: Sequence[str], least: float) -> dict[tuple[int, int], float]:
    """All pairs of which the shingle sets are at least so alike, by counting what every two sets share."""
    from scipy.sparse import csr_array

    number: dict[str, int] = {}
    sets = [[number.setdefault(shingle, len(number)) for shingle in shingles(text)] for text in texts]
    sizes = np.array([len(some) for some in sets])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    columns = np.fromiter((one for some in sets for one in some), np.int64, int(starts[-1]))
    table = csr_array((np.ones(len(columns), np.int32), columns, starts), shape=(len(texts), len(number)))
    turned = table.T.tocsr()
    found: dict[tuple[int, int], float] = {}
    for begin in range(0, len(texts), 500):
        shared: NDArray[np.float64] = (table[begin : begin + 500] @ turned).toarray().astype(np.float64)
        alike = shared / np.maximum(sizes[begin : begin + 500, None] + sizes[None, :] - shared, 1)
        for first, second in np.argwhere(alike >= least).tolist():
            if begin + first < second:
                found[begin + first, second] = float(alike[first, second])
    return found


def measured(texts: Sequence[str], ours: Pairs, others: Mapping[str, Pairs], floor: bool) -> list[Measured]:
    """Recall and precision of ours beside datasketch's, and whether what the step removes is alike to its cluster."""
    exact = exact_pairs(texts, THRESHOLD)
    close = {pair for pair, alike in exact.items() if alike < NEAR}
    other = others["datasketch"]

    def row(what: str, share: Callable[[Pairs], float], low: float | None) -> Measured:
        return Measured(f"{len(texts):,} documents: {what}", share(ours), share(other), share(ours), floor=low)

    removed, alone = _removed(texts, exact)
    low = RECALL if floor else None
    return [
        row(f"recall of {len(exact):,} pairs", lambda found: len(found & exact.keys()) / len(exact), low),
        row(f"recall of the {len(close)} pairs below {NEAR}", lambda found: len(found & close) / len(close), None),
        row("precision", lambda found: len(found & exact.keys()) / max(len(found), 1), 1.0),
        Measured(
            f"{removed:,} removed rows: share alike to a row of their cluster", 1 - alone / removed, None,
            1 - alone / removed, floor=1.0,
        ),
    ]  # fmt: skip


def _removed(texts: Sequence[str], exact: Mapping[tuple[int, int], float]) -> tuple[int, int]:
    """How many rows the step removes, and how many of them are not alike to any row of their cluster."""
    step = build("steps", {"deduplicate": {"threshold": THRESHOLD}})
    assert isinstance(step, Step)
    rows = [Example(str(number), {"text": text}, Origin("texts", number + 1)) for number, text in enumerate(texts)]
    ledger = Ledger()
    for _ in step.run(rows, StepContext("train", 1, ledger.page("train", "deduplicate"))):
        pass
    stays = {int(entry.id): int(str(entry.of)) for entry in ledger.entries if entry.action == "dropped"}
    clusters: dict[int, set[int]] = defaultdict(set)
    for number, root in stays.items():
        clusters[root] |= {number, root}
    near: dict[int, set[int]] = defaultdict(set)
    for first, second in exact:
        near[first].add(second)
        near[second].add(first)
    return len(stays), sum(not near[number] & clusters[root] for number, root in stays.items())


def rates(
    texts: Sequence[str], rounds: Sequence[Mapping[str, Mapping[str, Any]]], floor: float | None
) -> list[Measured]:
    """Documents a second of processor time, ours beside each peer; the value is the median ratio of the rounds."""
    found = []
    for peer in rounds[0]:
        if peer == "ours":
            continue
        ratios = [round[peer]["cpu"] / round["ours"]["cpu"] for round in rounds]
        speeds = [len(texts) / statistics.median(round[side]["cpu"] for round in rounds) for side in ("ours", peer)]
        low = floor if peer == "datasketch" else None
        name = f"{len(texts):,} documents: documents a processor second, beside {peer}"
        found.append(Measured(name, *speeds, statistics.median(ratios), min(ratios), max(ratios), floor=low))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Near duplicates beside exact similarity, datasketch and rensa.")
    parser.add_argument("--quick", action="store_true", help="600 documents, one round; no floor of speed is held")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    originals = documents()
    texts = planted(originals[::10] if given.quick else originals, 100 if given.quick else COPIES)
    even_settings(1)
    os.environ["RAYON_NUM_THREADS"] = "1"
    names = ["ours", "datasketch", *(["rensa", RUST] if importlib.util.find_spec("rensa") else [])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "documents.json"
        file.write_text(json.dumps(texts), encoding="utf-8")
        with sides({name: (work, {"side": name, "documents": str(file)}) for name in names}) as started:
            for side in started.values():
                side.turn(100)  # what is imported and compiled at first use
            rounds = []
            for number in range(1 if given.quick else 3):
                order = names if number % 2 == 0 else names[::-1]
                rounds.append({name: started[name].turn(len(texts)) for name in order})
    pairs: dict[str, Pairs] = {name: {(first, second) for first, second in rounds[0][name]["pairs"]} for name in names}
    rows = measured(texts, pairs.pop("ours"), pairs, not given.quick)
    return finish([*rows, *rates(texts, rounds, None if given.quick else FASTER)], given.json)


if __name__ == "__main__":
    sys.exit(main())
