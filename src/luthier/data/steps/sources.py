"""Measures what each source gives and how varied it is, and says what mixtures would look like; changes nothing.

Of each source (file, or a group such as domain): rows, characters, words, its share of an epoch in rows and in words
(repeats counted), classes. Of a sample of its rows, the same whatever the other rows: distinct runs of words, how far
it packs, the mean cosine distance between rows, and the Vendi score, over the same number of words for each source
where it has so many. Of each two sources: the share of the one's runs of five words that are in the other. For each
temperature: the shares, and how often rows of each source would come; above four times, more of the same adds little
(Muennighoff et al. 2023). All of it stands in the facts of the summary.
Errors: DataError where no row has the group. Source: functional/diversity.py names the papers of each measure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ...functional.diversity import Sketch, compression_ratio, cosine_spread, distinct, vendi
from ...functional.hashed import words_and_marks
from ...functional.minhash import shingles
from ...functional.shares import temperature_shares
from ..columnar import batched
from ..strata import Strata, drawn, stratum
from ..vectors import vectors_of

__all__ = ["Sources"]

_WORDS = 10_000
"""Words of each source's sample over which distinct runs are counted, since their share falls with length."""
_RUN = 5
_TEMPERATURES: Mapping[str, float | None] = {"as it is": 1.0, "temperature 2": 2.0, "temperature 5": 5.0, "equal": None}
_CLASSES = 20
_SOURCES = 50
"""Sources that are measured one by one, the largest; all are counted."""


class Sources(Step):
    """Counts rows by source and measures how varied they are; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"by": "source", "sample": 20}

    by: str = Field("file", description="what a source is: file, label, length, or a group")
    sample: int = Field(1000, ge=2, description="rows of each source whose variety is measured")
    encoder: str | None = Field(None, description="a model for the vectors, embedded:minilm; absent: hashed words")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if rows:
            strata = Strata.of(rows, (self.by,), "data.steps.sources.by")
            context.facts.update(self._facts(rows, strata, context.seed))
        yield from rows

    def _facts(self, rows: Sequence[Example], strata: Strata, seed: int) -> dict[str, Any]:
        largest = [strata.names[place] for place in np.argsort(-strata.counts, kind="stable")[:_SOURCES].tolist()]
        counted = {name: _Counted() for name in largest}
        draws = np.empty(len(rows))
        for number, example in enumerate(rows):
            draws[number] = drawn(seed, example.id)
            name = strata.names[strata.of_row[number]]
            if name in counted:
                counted[name].add(example)
        samples = _samples(rows, strata, draws, set(largest), self.sample)
        whole = _sample(rows, draws, self.sample)
        for some in batched(rows, 1024):
            _sketch([row for row in some if stratum(row, (self.by,)) in counted], self.by, counted)
        totals = [sum(one.epoch_rows for one in counted.values()), sum(one.epoch_words for one in counted.values())]
        return {
            "by": self.by,
            "sources": len(strata.names),
            "vectors": self.encoder or "hashed words",
            "of each": {
                name: {**one.plain(*totals), **_variety(samples[name], self.encoder)} for name, one in counted.items()
            },
            "all together": _variety(whole, self.encoder),
            "share of runs of five words that are in": _overlaps(counted),
            "mixtures": _mixtures(largest, {name: one.rows for name, one in counted.items()}),
        }


@dataclass
class _Counted:
    """What is added up of a source, row by row; characters and words are counted once, an epoch with repeats."""

    rows: int = 0
    characters: int = 0
    words: int = 0
    epoch_rows: float = 0.0
    epoch_words: float = 0.0
    classes: Counter[str] = field(default_factory=Counter)
    runs: Sketch = field(default_factory=Sketch)

    def add(self, example: Example) -> None:
        text = example.text()
        words = len(text.split())
        self.rows += 1
        self.characters += len(text)
        self.words += words
        self.epoch_rows += example.repeat
        self.epoch_words += example.repeat * words
        if isinstance(example.target, str):
            self.classes[example.target] += 1

    def plain(self, epoch_rows: float, epoch_words: float) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "rows": self.rows,
            "characters": self.characters,
            "words": self.words,
            "share of an epoch's rows": round(self.epoch_rows / (epoch_rows or 1), 6),
            "share of an epoch's words": round(self.epoch_words / (epoch_words or 1), 6),
        }
        if self.classes:
            facts |= {"classes": len(self.classes), "largest classes": dict(self.classes.most_common(_CLASSES))}
        return facts


def _sample(rows: Iterable[Example], draws: NDArray[np.float64], count: int) -> list[Example]:
    """The rows with the smallest draws, in order."""
    chosen = set(np.argsort(draws, kind="stable")[:count].tolist())
    return [example for number, example in enumerate(rows) if number in chosen]


def _samples(
    rows: Iterable[Example], strata: Strata, draws: NDArray[np.float64], names: set[str], count: int
) -> dict[str, list[Example]]:
    """Of each source, the rows with the smallest draws."""
    order = np.lexsort((draws, strata.of_row))
    begins = np.cumsum(strata.counts) - strata.counts
    chosen = {int(row) for begin, end in zip(begins, begins + strata.counts, strict=True)
              for row in order[begin : min(end, begin + count)]}  # fmt: skip
    found: dict[str, list[Example]] = {name: [] for name in names}
    for number, example in enumerate(rows):
        if number in chosen and strata.names[strata.of_row[number]] in found:
            found[strata.names[strata.of_row[number]]].append(example)
    return found


def _sketch(rows: Sequence[Example], by: str, counted: Mapping[str, _Counted]) -> None:
    """Adds the rows' runs of words to their sources' sketches."""
    sets = shingles([example.text() for example in rows], _RUN)
    found: dict[str, list[NDArray[np.uint64]]] = {}
    for number, example in enumerate(rows):
        found.setdefault(stratum(example, (by,)), []).append(sets.of(number))
    for name, some in found.items():
        counted[name].runs.add(np.concatenate(some))


def _variety(sample: Sequence[Example], encoder: str | None) -> dict[str, Any]:
    """How varied a sample is."""
    words: list[str] = []
    for example in sample:
        words += words_and_marks(example.text())
        if len(words) >= _WORDS:
            break
    words = words[:_WORDS]
    vectors = vectors_of(sample, len(sample), encoder)
    return {
        "rows sampled": len(sample),
        "words sampled": len(words),
        **{f"distinct {n}": round(distinct(words, n), 6) for n in (1, 2, 3)},
        "compression ratio": round(compression_ratio(" ".join(words)), 6),
        "mean cosine distance": round(cosine_spread(vectors), 6),
        "Vendi score": round(vendi(vectors), 4),
    }


def _overlaps(counted: Mapping[str, _Counted]) -> dict[str, dict[str, float]]:
    """Of each source, what share of its runs of words is in each other one; those that share nothing are left out."""
    found: dict[str, dict[str, float]] = {}
    for name, one in counted.items():
        shares = {other: round(one.runs.share_in(counted[other].runs), 6) for other in counted if other != name}
        if any(shares.values()):
            found[name] = {other: share for other, share in shares.items() if share}
    return found


def _mixtures(names: Sequence[str], rows: Mapping[str, int]) -> dict[str, dict[str, dict[str, float]]]:
    """For each temperature: the share of each source, and how often its rows come where the rarest come once."""
    counts = np.array([rows[name] for name in names], np.int64)
    found = {}
    for title, temperature in _TEMPERATURES.items():
        shares = temperature_shares(counts, temperature)
        times = shares / counts
        times = times / times.min()
        found[title] = {
            name: {"share": round(float(share), 6), "times": round(float(often), 4)}
            for name, share, often in zip(names, shares, times, strict=True)
        }
    return found
