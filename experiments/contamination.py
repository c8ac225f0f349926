"""Are training rows found that copy test rows, when their words were edited? FairytaleQA, 200 copies planted.

    python -m experiments.contamination [--quick] [--json FILE]

Of 200 contexts with several questions one row each is taken out of the evaluation set: its passage stays there, under
another question. These 200 rows, and 200 rows that are in the evaluation set, are planted into the training rows, each
with 10, 20 or 30 % of its words edited over passage, question and answer: replaced by a word of the training rows,
dropped, or followed by one that was put in. No tale of the training set is in the evaluation set by nature.

A copy that counts is a training row whose question and answer are those of an evaluation row. So the 200 copies have to
be found; the 200 rows on shared passages, and all 8,548 rows of the training set, must not be called copies. The other
side is GPT-3's rule: any 13 successive words in common with an evaluation row. The step's numbers were chosen on the
validation split, which --quick takes; two rules (a passage without a full stop, rows on two different passages) came
after a first look at the test split, at which every floor held too. Intervals: Wilson, 95 %.
"""

from __future__ import annotations

import math
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.record import Measured, finish
from luthier.core.component import build
from luthier.core.contracts import Step, StepContext
from luthier.core.example import Example, Turn
from luthier.core.recipe import Source
from luthier.data.ledger import Ledger
from luthier.data.read import read
from luthier.functional.overlap import words

from ._recipes import arguments_of, outside

__all__ = ["edited", "main", "wilson"]

COLUMNS = {"instruction": "context", "input": "question", "output": "answers"}
COPIES = 200
FLOOR = 0.95
SHARES = {0.1: FLOOR, 0.2: FLOOR, 0.3: None}
"""The share of words that is edited, and the floor of recall and precision there."""
GRAM = 13


@dataclass(frozen=True)
class Planted:
    """Training rows with copies among them; which are copies (of what) and which only share a passage."""

    train: list[Example]
    held_out: list[Example]
    copies: dict[str, str]
    passages: frozenset[str]


def edited(texts: Sequence[str], share: float, vocabulary: Sequence[str], draw: random.Random) -> list[str]:
    """The texts with this share of all their words replaced, dropped or followed by another, a third each."""
    tokens = [(number, token) for number, text in enumerate(texts) for token in re.findall(r"\S+\s*", text)]
    chosen = set(draw.sample(range(len(tokens)), round(share * len(tokens))))
    found = [""] * len(texts)
    for place, (number, token) in enumerate(tokens):
        if place in chosen:
            word, other = token.rstrip(), draw.choice(vocabulary)
            kind = draw.choice(("replace", "drop", "insert"))
            token = {"replace": other, "drop": "", "insert": f"{word} {other}"}[kind] + token[len(word) :]
        found[number] += token
    return [text.strip() for text in found]


def planted(train: Sequence[Example], held_out: Sequence[Example], share: float, count: int, seed: int = 1) -> Planted:
    """`count` copies and as many rows on shared passages, laid among the training rows."""
    draw = random.Random(f"{seed} {share}")
    vocabulary = [word for row in train[:2000] for word in row.text().split()]
    by_context: dict[str, list[Example]] = {}
    for row in held_out:
        by_context.setdefault(_prompt(row).rpartition("\n\n")[0], []).append(row)
    several = [rows for rows in by_context.values() if len({_prompt(row) for row in rows}) > 1]
    shared = [draw.choice(rows) for rows in draw.sample(several, min(count, len(several)))]
    # Another row with the very question would make the one that was taken out its copy.
    asked = {_prompt(row) for row in shared}
    left = [row for row in held_out if _prompt(row) not in asked]
    copied = draw.sample(left, min(count, len(left)))
    mixed = [*train]
    for name, rows in (("copy", copied), ("passage", shared)):
        for row in rows:
            mixed.insert(draw.randint(0, len(mixed)), _edited_row(row, f"{name}:{row.id}", share, vocabulary, draw))
    return Planted(
        mixed, left, {f"copy:{row.id}": row.id for row in copied}, frozenset(f"passage:{row.id}" for row in shared)
    )


def _prompt(row: Example) -> str:
    messages = row.parts["messages"]
    assert isinstance(messages, tuple)
    return messages[0].content


def _edited_row(row: Example, name: str, share: float, vocabulary: Sequence[str], draw: random.Random) -> Example:
    """A training row: the edited prompt and first answer, without the references that only an evaluation has."""
    texts = [turn.content for turn in row.parts["messages"] if isinstance(turn, Turn)]
    prompt, answer = edited(texts, share, vocabulary, draw)
    return replace(row, id=name, parts={"messages": (Turn("user", prompt), Turn("assistant", answer))}, target=None)


def ours(given: Planted) -> tuple[dict[str, str], dict[str, str]]:
    """The rows that `decontaminate` calls copies, with whose, and those that it says share a passage."""
    step = build("steps", "decontaminate")
    assert isinstance(step, Step)
    ledger = Ledger()
    for _ in step.run(
        given.train, StepContext("train", 1, ledger.page("train", "decontaminate"), {"test": given.held_out})
    ):
        pass
    kinds = ("copy of an evaluation row", "shared passage")
    copies, passages = ({entry.id: str(entry.of) for entry in ledger.entries if entry.kind == kind} for kind in kinds)
    return copies, passages


def by_grams(given: Planted) -> set[str]:
    """The rows that have 13 successive words in common with an evaluation row: GPT-3's rule."""

    def grams(row: Example) -> Iterator[tuple[str, ...]]:
        found = words(row.text())
        return zip(*(found[place:] for place in range(GRAM)), strict=False)

    known = {gram for row in given.held_out for gram in grams(row)}
    return {row.id for row in given.train if not known.isdisjoint(grams(row))}


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927)."""
    if not count:
        return 0.0, 1.0
    z, share = 1.959964, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def measured(given: Planted, share: float, floor: float | None) -> list[Measured]:
    """Recall and precision of copies beside GPT-3's rule, how many name their row, how shared passages are told."""
    copies, passages = ours(given)
    grams = by_grams(given)

    def row(what: str, hits: int, count: int, other: tuple[int, int] | None, low: float | None) -> Measured:
        value = hits / max(count, 1)
        beside = None if other is None else other[0] / max(other[1], 1)
        return Measured(f"{share:.0%} of words edited: {what}", value, beside, value, *wilson(hits, count), floor=low)

    found, found_by_grams = len(given.copies.keys() & copies.keys()), len(given.copies.keys() & grams)
    right = sum(copies.get(name) == of for name, of in given.copies.items())
    on_passages = len(given.passages)
    return [
        row(f"recall of {len(given.copies)} copies (other: any 13-gram)", found, len(given.copies),
            (found_by_grams, len(given.copies)), floor),
        row(f"precision over {len(given.train):,} training rows (other: any 13-gram)", found, len(copies),
            (found_by_grams, len(grams)), floor),
        row("copies whose own evaluation row is named first", right, len(given.copies), None, None),
        row(f"of {on_passages} rows on shared passages, told as such", len(given.passages & passages.keys()),
            on_passages, None, None),
        row("of these, called copies (other: any 13-gram)", len(given.passages & copies.keys()), on_passages,
            (len(given.passages & grams), on_passages), None),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Edited copies of test rows among the training rows.", arguments)
    train, held_out = (
        read([Source(path=str(outside(f"tasks/fairytaleqa/{name}.jsonl")), format="alpaca", columns=COLUMNS)]).examples
        for name in ("train", "val" if given.quick else "test")
    )
    rows = []
    for share, floor in SHARES.items():
        some = planted(train[:500] if given.quick else train, held_out, share, 20 if given.quick else COPIES)
        rows += measured(some, share, None if given.quick else floor)
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
