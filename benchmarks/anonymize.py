"""Personal data found and replaced, beside presidio: presidio-research's sentences, whose spans are known.

    python -m benchmarks.anonymize [--model FOLDER] [--quick] [--json FILE]

1,500 sentences with 2,863 spans, made by presidio's authors from templates and invented people. For the kinds that have
a form, both engines are bare: our patterns at the step's certainty, presidio's pattern recognizers (English, no
language model, every score) for the kinds that both know. A span is right where kind, start and end are; overlaps are
settled in the same way on both sides. Names, organizations, places and addresses are measured where --model names a
tagger (recipe names): it stands beside our patterns as in the step, and in presidio's analyzer as a recognizer beside
its own, whose spans are those that its rules leave. Leaks are values of known spans that still stand in their sentence
after the step. Rates are by processor time, the engines in turn in one process. The words that our patterns look for
beside a number were chosen with these sentences in view, so their figures say what is covered, not what a new text will
give; the tagger's sentences were written without a look at these.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks._turns import outside_data
from benchmarks.record import Measured, finish
from luthier.core.component import build
from luthier.core.contracts import Step, StepContext
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger
from luthier.data.personal import patterns, presidio, tagger
from luthier.data.personal.key import VARIABLE
from luthier.data.personal.spans import Finder, Span, settle

__all__ = ["Sentence", "Tally", "in_analyzer", "leaks", "main", "name_rows", "rate_rows", "read", "scores", "tally"]

FILE = "pii/presidio-research/synth_dataset_v2.json"
KINDS = {
    "CREDIT_CARD": "credit_card",
    "PHONE_NUMBER": "phone",
    "EMAIL_ADDRESS": "email",
    "DOMAIN_NAME": "url",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
    "IP_ADDRESS": "ip",
    "US_DRIVER_LICENSE": "drivers_license",
}
NAMES = {"PERSON": "person", "ORGANIZATION": "organization", "GPE": "place", "STREET_ADDRESS": "address"}
FASTER = 20.0
"""How many times presidio's sentences a processor second ours must reach."""
KEPT = 0.99
"""The share of values of the kinds with a form that must be gone after the step."""
CERTAIN = 0.5


@dataclass(frozen=True)
class Sentence:
    """A text and its known spans: kind, start, end."""

    text: str
    spans: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Tally:
    """Spans of a kind: known, found, and found rightly."""

    known: int
    found: int
    right: int

    @property
    def recall(self) -> float:
        return self.right / self.known if self.known else float("nan")

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else float("nan")

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.known + self.found) if self.known + self.found else float("nan")


def read(file: Path, kinds: Mapping[str, str]) -> list[Sentence]:
    """The sentences with their spans of these kinds, by our names."""
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return [
        Sentence(
            row["full_text"],
            tuple(
                (kinds[span["entity_type"]], span["start_position"], span["end_position"])
                for span in row["spans"]
                if span["entity_type"] in kinds
            ),
        )
        for row in rows
    ]


def tally(sentences: Sequence[Sentence], found: Sequence[Sequence[Span]], kind: str) -> Tally:
    """How the spans that were found of a kind agree with those that are known."""
    known = [{(start, end) for name, start, end in sentence.spans if name == kind} for sentence in sentences]
    told = [{(span.start, span.end) for span in spans if span.kind == kind} for spans in found]
    right = sum(len(one & other) for one, other in zip(known, told, strict=True))
    return Tally(sum(map(len, known)), sum(map(len, told)), right)


def scores(
    sentences: Sequence[Sentence], ours: Sequence[Sequence[Span]], other: Sequence[Sequence[Span]] | None, kind: str
) -> list[Measured]:
    """A kind's lines: recall, precision and F1; value: ours less the other's, or ours where there is no other."""
    mine = tally(sentences, ours, kind)
    peer = None if other is None else tally(sentences, other, kind)
    rows = []
    for name in ("recall", "precision", "f1"):
        own, theirs = getattr(mine, name), None if peer is None else getattr(peer, name)
        value = own if theirs is None else own - theirs
        floor = 0.0 if name == "recall" and theirs is not None else None
        rows.append(Measured(f"{kind} ({mine.known} spans): {name}", own, theirs, value, floor=floor))
    return rows


def leaks(sentences: Sequence[Sentence], **settings: Any) -> tuple[int, int]:
    """Known values that still stand in their sentence after the step, and how many values there are."""
    rows = [
        Example(f"s:{number}", {"text": sentence.text}, Origin("s", number + 1))
        for number, sentence in enumerate(sentences)
    ]
    step = build("steps", {"anonymize": settings})
    assert isinstance(step, Step)
    context = StepContext("train", 1, Ledger().page("train", "anonymize"))
    after = {row.id: row.text() for row in step.run(rows, context)}
    left = total = 0
    for number, sentence in enumerate(sentences):
        for _, start, end in sentence.spans:
            total += 1
            left += sentence.text[start:end] in after.get(f"s:{number}", "")
    return left, total


def _seconds(work: Callable[[str], object], texts: Sequence[str]) -> float:
    begin = time.process_time()
    for text in texts:
        work(text)
    return time.process_time() - begin


def rate_rows(texts: Sequence[str], ours: Finder, other: Finder, pairs: int) -> Measured:
    """Sentences a processor second, the engines in turn; what is loaded at first use is loaded before."""

    def settled(finder: Finder) -> Callable[[str], list[Span]]:
        return lambda text: settle(finder.find(text), CERTAIN)

    sides = (settled(ours), settled(other))
    for side in sides:
        _seconds(side, texts)
    taken = [[_seconds(side, texts) for side in sides] for _ in range(pairs)]
    ratios = [theirs / own for own, theirs in taken]
    rates = [len(texts) / statistics.median(side) for side in zip(*taken, strict=True)]
    floor = FASTER if pairs > 1 else None
    middle = statistics.median(ratios)
    return Measured("sentences a processor second", rates[0], rates[1], middle, min(ratios), max(ratios), floor)


def in_analyzer(finder: Finder) -> Callable[[str], list[Span]]:
    """Presidio's analyzer with its pattern recognizers and the finder as one more; its spans of names."""
    from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
    from presidio_analyzer.nlp_engine import NoOpNlpEngine

    types = {kind: name for name, kind in NAMES.items()}

    class Names(EntityRecognizer):
        def load(self) -> None:
            pass

        def analyze(self, text: str, entities: Sequence[str], nlp_artifacts: Any = None) -> list[Any]:
            spans = [span for span in finder.find(text) if span.certainty >= CERTAIN]
            return [RecognizerResult(types[span.kind], span.start, span.end, span.certainty) for span in spans]

    registry = RecognizerRegistry([*presidio.recognizers(), Names(list(NAMES), name="names")])
    words = NoOpNlpEngine([{"lang_code": "en", "model_name": "none"}])
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=words)

    def find(text: str) -> list[Span]:
        found = analyzer.analyze(text, "en")
        return [
            Span(one.start, one.end, NAMES[one.entity_type], one.score) for one in found if one.entity_type in NAMES
        ]

    return find


def name_rows(file: Path, model: Path) -> list[Measured]:
    """Names, organizations, places and addresses with one tagger in both engines, and what leaks of them."""
    named = read(file, NAMES)
    finder = tagger.Tagger(model)
    both = (patterns.Patterns(), finder)
    ours = [settle([span for one in both for span in one.find(row.text)], CERTAIN) for row in named]
    analyze = in_analyzer(finder)
    theirs = [analyze(row.text) for row in named]
    # The tagger is the same on both sides: what may differ is what overlaps are settled to, so there is no floor.
    rows = [replace(row, floor=None) for kind in NAMES.values() for row in scores(named, ours, theirs, kind)]
    left, total = leaks(named, model=str(model))
    other, _ = leaks(named, engine="presidio", model=str(model))
    name = f"leaks of {total} names, organizations, places and addresses (value: share that is gone with ours)"
    rows.append(Measured(name, left, other, 1 - left / total))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Personal data found and replaced, beside presidio.")
    parser.add_argument("--model", type=Path, default=None, help="folder of a tagger for names, places and addresses")
    parser.add_argument("--quick", action="store_true", help="one pair of timings, no floor for the rate")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    file = outside_data(FILE)
    os.environ[VARIABLE] = "a key of this benchmark alone"
    sentences = read(file, KINDS)
    kinds = frozenset(KINDS.values())
    ours, other = patterns.Patterns(), presidio.Presidio(frozenset(presidio.KINDS.values()))
    found = [settle(ours.find(sentence.text), CERTAIN) for sentence in sentences]
    told = [settle(other.find(sentence.text), 0.0) for sentence in sentences]
    rows = [row for kind in KINDS.values() for row in scores(sentences, found, told, kind)]
    left, total = leaks(sentences)
    theirs, _ = leaks(sentences, engine="presidio", certainty=0, kinds=sorted(kinds))
    name = f"leaks of {total} values with a form (value: share that is gone with ours)"
    rows.append(Measured(name, left, theirs, 1 - left / total, floor=KEPT))
    texts = [sentence.text for sentence in sentences]
    rows.append(rate_rows(texts, ours, other, 1 if given.quick else 7))
    if given.model is not None:
        rows += name_rows(file, given.model)
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
