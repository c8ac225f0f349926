"""How well the model finds the tagged spans: precision, recall and F1 of whole spans, and accuracy of words.

A span is right where kind, begin and end are: micro-averaged over all kinds, and for each kind by itself; 0 to 1,
higher is better. Intervals resample sentences. Tags that mark no spans (parts of speech) have an accuracy alone.
Source: Tjong Kim Sang and De Meulder 2003 (conlleval). Errors: a DataError without items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.contracts import Floats
from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Sample, Scores, Subject
from ..core.example import Example
from ..data.parts import tokens_of
from ..functional.statistics import OfSums
from ..functional.tagging import as_bio, best_path, spans_of

__all__ = ["Tagging"]


class Tagging(Check):
    """Predicts a tag for each word and counts the spans that come out right."""

    example: ClassVar[Mapping[str, Any]] = {"per_kind": False, "samples": 4}
    tasks: ClassVar[frozenset[str]] = frozenset({"token_classification"})
    constrained: bool = Field(
        True, description="the likeliest tags that make sense together (Viterbi), not each word's own likeliest"
    )
    per_kind: bool = Field(True, description="precision, recall and F1 of each kind as findings of their own")
    samples: int = Field(12, ge=0, description="sentences kept with their spans for the report")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        if not test:
            raise DataError(
                "there are no test items to tag",
                expected="tagged rows in data.test or data.validation",
                remedy="set data.test to a share (0.1) or a path",
            )
        return test

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        given = [self._tags(logps, context.facts) for logps in subject.tag(examples)]
        gold = [list(tokens_of(example)[1]) for example in examples]
        words = np.array(
            [[sum(a == b for a, b in zip(*pair, strict=True)), len(pair[0])] for pair in zip(gold, given, strict=True)],
            dtype=np.float64,
        )
        kinds: Sequence[str] | None = context.facts["kinds"]
        if kinds is None:
            return context.scores(examples, {"words": words}, note=subject.about)
        pairs = [(spans_of(a), spans_of(b)) for a, b in zip(gold, given, strict=True)]
        spans = np.zeros((len(pairs), 3 * len(kinds)))
        for row, (wanted, found) in enumerate(pairs):
            for block, some in enumerate((set(wanted) & set(found), found, wanted)):
                for kind, _, _ in some:
                    spans[row, block * len(kinds) + kinds.index(kind)] += 1
        shown = {example.id for example in context.choose(examples, self.samples)} if self.samples else set()
        samples = tuple(
            Sample(example.id, " ".join(tokens_of(example)[0]), *(_named(example, side) for side in pair))
            for example, pair in zip(examples, pairs, strict=True)
            if example.id in shown
        )
        note = subject.about + f"; {sum(len(wanted) for wanted, _ in pairs)} spans in {len(pairs)} sentences"
        return context.scores(examples, {"words": words, "spans": spans}, samples=samples, note=note)

    def _tags(self, logps: Floats, facts: Mapping[str, Any]) -> list[str]:
        """The tags of one sentence, in BIO where they mark spans."""
        classes: Sequence[str] = facts["classes"]
        scheme = facts["scheme"]
        if scheme is None:
            return [classes[number] for number in logps.argmax(axis=1)]
        path = best_path(logps, classes, scheme) if self.constrained else logps.argmax(axis=1)
        return as_bio([classes[number] for number in path])

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        accuracy = Measure("accuracy", "higher", OfSums(_share_of_words), source="words")
        kinds: Sequence[str] | None = facts.get("kinds", ())
        if kinds is None:
            return [accuracy]
        result = [
            Measure(name, "higher", OfSums(_whole(name), _all_kinds), "spans", trials=_tried(name, range(len(kinds))))
            for name in _SHARES
        ]
        for number, kind in enumerate(kinds if self.per_kind else ()):
            for name in _SHARES:
                share, trials = OfSums(_of_kind(name, number, len(kinds))), _tried(name, [number])
                result.append(Measure(name, "higher", share, "spans", trials=trials, paired=False, group=kind))
        return [*result, accuracy]


def _named(example: Example, spans: Sequence[tuple[str, int, int]]) -> str:
    words, _ = tokens_of(example)
    return "; ".join(f"{kind}: {' '.join(words[begin:end])}" for kind, begin, end in spans) or "(none)"


# Columns of "spans": for each kind those that are right, then those that the model gave, then those that are gold.

_SHARES: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "f1": lambda right, given, gold: 2 * right / (given + gold),
    "precision": lambda right, given, gold: right / given,
    "recall": lambda right, given, gold: right / gold,
}


def _all_kinds(spans: Floats) -> Floats:
    """[n, 3K] -> [n, 3]."""
    return np.stack([block.sum(axis=1) for block in np.split(spans, 3, axis=1)], axis=1)


def _whole(name: str) -> Callable[[Floats, Floats], Floats]:
    return lambda sums, rows: _SHARES[name](sums[:, 0], sums[:, 1], sums[:, 2])


def _of_kind(name: str, number: int, kinds: int) -> Callable[[Floats, Floats], Floats]:
    return lambda sums, rows: _SHARES[name](*(sums[:, number + block * kinds] for block in range(3)))


def _tried(name: str, kinds: Sequence[int]) -> Callable[[Floats], Floats]:
    """Of each row [n] the spans of these kinds that the share is one of."""
    blocks = {"f1": (1, 2), "precision": (1,), "recall": (2,)}[name]
    return lambda spans: spans[:, [kind + block * (spans.shape[1] // 3) for kind in kinds for block in blocks]].sum(1)


def _share_of_words(sums: Floats, rows: Floats) -> Floats:
    return np.asarray(sums[:, 0] / sums[:, 1])
