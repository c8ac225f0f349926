"""Swaps of gender against what a reader holds to be right, and against WinoBias, which has both versions.

    python -m experiments.counterfactuals [--quick] [--seeds 10] [--json out/counterfactuals.json]   needs LUTHIER_DATA

Two hundred sentences judged by hand before there was a swapper: the share that is exactly right on the half that was
looked at while developing and on the half that was run once, at the end; each wrong one is a row of its own. Then
WinoBias, whose two versions of a sentence differ in the gender of pronouns: the share of sentences that become their
other version; those whose versions differ in more are left out. Then the check of fluency on right and wrong swaps.
Last, a classifier whose training rows tie a class to a gender, with counterfactuals and, for control, with copies of as
many rows (_counterfactual_effect.py).
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Measured, finish
from experiments._counterfactual_effect import effects
from experiments._counterfactual_sentences import Judged, judged, winobias_pairs, words
from luthier.data.steps.counterfactuals import Counterfactuals
from luthier.data.swaps.lexicon import load_lexicon, shipped
from luthier.data.swaps.names import names
from luthier.data.swaps.swap import Swapper
from luthier.models.likelihood import load_likelihood

__all__ = ["gender", "main", "right", "share"]

FLOOR = 0.95
HALVES = ("seen while developing", "run once at the end")
_OTHER = {"him": "his", "his": "him", "her": "hers", "hers": "her"}
_EXCHANGED = re.compile(r"\b(?:him|his|hers|her)\b")
_GENDERED = re.compile(r"\b(?:he|she|him|her|his|hers|himself|herself)\b", re.IGNORECASE)


def gender() -> Swapper:
    """The swapper of the step, as it is by default."""
    return Swapper(load_lexicon(shipped("gender")), names(), pronouns=True)


def right(one: Judged, swapper: Swapper) -> bool:
    """Whether every word becomes what the reader said, and nothing else; a name, any of the other gender."""
    old, new = words(one.sentence.text), words(swapper.swap(one.sentence.text))
    if len(old) != len(new):
        return False
    made = [(at, before, after) for at, (before, after) in enumerate(zip(old, new, strict=True)) if before != after]
    if [edit[:2] for edit in made] != [edit[:2] for edit in one.edits]:
        return False
    side = names().side
    for (_, before, after), (_, _, wanted) in zip(made, one.edits, strict=True):
        if wanted == "*" and {side[before.capitalize()], side[after.capitalize()]} != {0, 1}:
            return False
        if wanted not in ("*", after):
            return False
    return True


def share(holds: Sequence[bool]) -> tuple[float, float, float]:
    """The share, with Wilson's interval of 95 % (Wilson 1927)."""
    count, found, z = len(holds), sum(holds), 1.959964
    middle = (found + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * (found * (count - found) / count + z * z / 4) ** 0.5
    return found / count, middle - half, middle + half


def measured(data: Path, seeds: int, *, quick: bool) -> list[Measured]:
    """The rows of the table."""
    swapper = gender()
    rows: list[Measured] = []
    wrong: list[Judged] = []
    for half, name in enumerate(HALVES):
        if quick and half:
            continue
        sentences = [one for one in judged(data) if one.half == half]
        holds = [right(one, swapper) for one in sentences]
        value, low, high = share(holds)
        rows.append(Measured(f"judged sentences, {name}: exactly right", value, None, value, low, high, FLOOR))
        wrong += [one for one, holding in zip(sentences, holds, strict=True) if not holding]
    rows += [Measured(f"wrong: {one.sentence.source}, row {one.sentence.row}", 0, None, 0) for one in wrong]
    pairs = winobias_pairs(data)
    same = [pair for pair in pairs if _bare(pair[0]) == _bare(pair[1])]
    value, low, high = share([swapper.swap(old).split() == new.split() for old, new in same])
    rows.append(Measured("WinoBias: becomes its other version", value, None, value, low, high, FLOOR))
    left_out = len(pairs) - len(same)
    rows.append(Measured("WinoBias: left out, versions differ in more than pronouns", left_out, None, left_out))
    rows += _fluency([one for one in judged(data) if one.edits and not one.half], swapper)
    return [*rows, *effects(data, swapper, range(1, seeds + 1))]


def _fluency(sentences: Sequence[Judged], swapper: Swapper) -> list[Measured]:
    """What the step's check of fluency does to right swaps, and to the same with "him" and "his" exchanged wrongly."""
    likelihood, ratio = load_likelihood("embedded:nano"), Counterfactuals().ratio
    made = [(one.sentence.text, swapper.swap(one.sentence.text)) for one in sentences if right(one, swapper)]
    before = likelihood.losses([old for old, _ in made])
    after = likelihood.losses([new for _, new in made])
    spoiled = [_EXCHANGED.sub(lambda found: _OTHER[found[0]], new) for _, new in made]
    wrong = [at for at, (_, new) in enumerate(made) if spoiled[at] != new]
    worse = likelihood.losses([spoiled[at] for at in wrong])
    kept, low, high = share(list(after <= before * ratio))
    found, least, most = share(list(worse > before[wrong] * ratio))
    return [
        Measured("check of fluency by nano: right swaps of single sentences kept", kept, None, kept, low, high),
        Measured("check of fluency by nano: wrong forms of him, his and her found", found, None, found, least, most),
    ]


def _bare(text: str) -> str:
    return " ".join(_GENDERED.sub("_", text).split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where a share falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the half that was seen while developing")
    parser.add_argument("--seeds", type=int, default=10, help="trainings of each arm; --quick: one")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    return finish(
        measured(Path(os.environ["LUTHIER_DATA"]), 1 if given.quick else given.seeds, quick=given.quick), given.json
    )


if __name__ == "__main__":
    raise SystemExit(main())
