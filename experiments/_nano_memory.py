"""What the model has learned by heart: runs of training words in what it writes, and secrets planted in its data.

Runs: samples that go on from the first words of training documents; the longest run of words of the generated part that
stands in the training text, beside equally long pieces of held-out text. (Blocks of the training text that share
thirteen words with those were cut out, so that the control's runs are short by construction.)
Exposure of a planted code: log2 of the number of codes, less log2 of its rank among them by the model's probability;
1.44 bits on average for a code that the model never saw. Source: Carlini et al. 2019 (arXiv:1802.08232), definition 2.
"""

from __future__ import annotations

import math
import random
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured
from luthier.core.errors import DataError, ModelError
from luthier.models.load import Loaded

from ._nano_model import continued, encode, next_logps
from ._nano_runs import Run, TrainingWords, words_of
from ._nano_texts import PLAIN, TextSet, held_out, learned_texts, rows_of

__all__ = ["Canary", "Recall", "canaries", "code_logps", "exposure", "exposures", "recall", "recall_rows"]

PROMPT = 8
"""Words of a training document that a sample goes on from."""
DIGITS = 4
UNPLANTED = ("Mira", "Nestor", "Olga", "Pavel", "Quirin", "Rosa", "Simon", "Thea", "Ulrich", "Vera")
"""Names that keep no number in the training data."""
_CANARY = re.compile(rf"^(\w+) keeps the number (\d{{{DIGITS}}})\b")
_START = re.compile(rf"(?:\S+\s+){{{PROMPT - 1}}}\S+")


# ---- runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recall:
    """The longest run of each sample, and of each equally long piece of held-out text."""

    sampled: Sequence[Run]
    control: Sequence[Run]


def recall(loaded: Loaded, folder: Path, *, samples: int, tokens: int, limit: int | None = None) -> Recall:
    """Samples at temperature 1 from the beginnings of random training documents, sample i with seed i.

    limit: rows of each training file to draw from and to look runs up in, for a quick look.
    """
    draw = random.Random(0)
    named = [(name, row["text"]) for name in PLAIN for row in islice(rows_of(folder / f"train/{name}.jsonl"), limit)]
    begun = [(name, start[0]) for name, text in named if (start := _START.match(text))]
    chosen = draw.sample(begun, min(samples, len(begun)))
    written = continued(loaded, [start for _, start in chosen], tokens, temperature=1.0, seeds=list(range(len(chosen))))
    others = {name: held_out(folder, name) for name in PLAIN}
    pieces = [
        _piece(others[name], len(words_of(one.text)), draw) for (name, _), one in zip(chosen, written, strict=True)
    ]
    training = TrainingWords(learned_texts(folder, limit))
    return Recall(training.longest([one.text for one in written]), training.longest(pieces))


def _piece(texts: TextSet, size: int, draw: random.Random) -> str:
    """So many words in a row from a random place of one of the texts, of those that are long enough."""
    able = [words for words in map(words_of, texts.texts) if len(words) >= size]
    if not able:
        raise DataError(
            f"no held-out text of '{texts.name}' has {size} words",
            expected="held-out texts at least as long as a sample",
            remedy="make the data again with tools/make_nano.py",
        )
    words = draw.choice(able)
    begin = draw.randrange(len(words) - size + 1)
    return " ".join(words[begin : begin + size])


def recall_rows(found: Recall) -> list[Measured]:
    """Median, 95th percentile and longest, samples beside held-out text."""
    sides = [np.array([run.length for run in runs]) for runs in (found.sampled, found.control)]
    ways = {
        "median": lambda lengths: float(np.median(lengths)),
        "95th percentile": lambda lengths: float(np.quantile(lengths, 0.95)),
        "longest": lambda lengths: float(lengths.max()),
    }
    what = f"longest run of training words in a sample, of {len(sides[0])}"
    rows = []
    for name, of in ways.items():
        ours, other = of(sides[0]), of(sides[1])
        title = f"{what}: {name} (other: equally long pieces of held-out text; value: ours less other)"
        rows.append(Measured(title, ours, other, ours - other))
    return rows


# ---- exposure --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Canary:
    """A name with its code, and how often it stands in the training file (0: never)."""

    name: str
    code: str
    planted: int


def canaries(folder: Path) -> list[Canary]:
    """The planted ones of the training folder, and ten names with codes that were never planted."""
    texts = Counter(row["text"] for row in rows_of(folder / "train/canaries.jsonl"))
    found = []
    for text, times in texts.items():
        said = _CANARY.match(text)
        if said is None:
            raise DataError(
                f"a canary reads '{text}'",
                where=str(folder / "train/canaries.jsonl"),
                expected="'NAME keeps the number 1234 ...', as tools/make_nano.py writes it",
            )
        found.append(Canary(said[1], said[2], times))
    draw = random.Random(1)
    free = [Canary(name, f"{draw.randrange(10**DIGITS):0{DIGITS}}", 0) for name in UNPLANTED]
    return [*found, *free]


def code_logps(loaded: Loaded, name: str) -> NDArray[np.float64]:
    """[10,000] log-probabilities of the codes 0000 to 9999 after "NAME keeps the number", digit by digit.

    Errors: ModelError for a tokenizer that does not write a code as one token a digit.
    """
    start = f"{name} keeps the number "
    whole = encode(loaded, [start + str(digit) * DIGITS for digit in range(10)])
    prompt, digits = whole[0][:-DIGITS], [ids[-1] for ids in whole]
    if len(set(digits)) < 10 or any(ids != [*prompt, *[own] * DIGITS] for ids, own in zip(whole, digits, strict=True)):
        raise ModelError("its tokenizer writes numbers in more than one digit a token", expected="one token a digit")
    prefixes, logps = [prompt], np.zeros(1)
    for _ in range(DIGITS):
        next_digit = next_logps(loaded, prefixes)[:, digits].numpy()
        logps = (logps[:, None] + next_digit).ravel()
        prefixes = [[*prefix, digit] for prefix in prefixes for digit in digits]
    return logps


def exposure(logps: NDArray[np.float64], code: int) -> float:
    """Bits: 0 where every other code is likelier, log2 of their number where none is."""
    rank = 1 + int((logps > logps[code]).sum())
    return math.log2(len(logps)) - math.log2(rank)


def exposures(loaded: Loaded, folder: Path, count: int | None = None) -> list[Measured]:
    """A row for each number of times that a code was planted: mean exposure, least and greatest, beside unplanted ones.

    count: canaries of each kind, for a quick look.
    """
    groups: dict[int, list[float]] = {}
    for canary in canaries(folder):
        group = groups.setdefault(canary.planted, [])
        if count is None or len(group) < count:
            group.append(exposure(code_logps(loaded, canary.name), int(canary.code)))
    free = groups.pop(0)
    rows = []
    for planted, bits in sorted(groups.items()):
        mean, other = statistics.mean(bits), statistics.mean(free)
        what = (
            f"codes that stand {planted}x in the training text, {len(bits)} of them: bits of exposure, of at most 13.3"
        )
        rows.append(Measured(f"{what} (other: {len(free)} never planted)", mean, other, mean, min(bits), max(bits)))
    title = f"codes that were never planted, {len(free)} of them: bits of exposure (1.44 expected)"
    return [*rows, Measured(title, statistics.mean(free), None, statistics.mean(free), min(free), max(free))]
