"""The benchmark of personal data: its counts by hand, its leaks, and that every kind has a floor beside presidio."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import anonymize
from benchmarks.anonymize import Sentence, Tally, in_analyzer, leaks, rate_rows, read, scores, tally
from luthier.data.personal.key import VARIABLE
from luthier.data.personal.patterns import Patterns
from luthier.data.personal.spans import Span

SENTENCES = [
    Sentence("Mail ann@corp.com", (("email", 5, 17),)),
    Sentence("or bob@corp.com, 8 of them", (("email", 3, 15), ("phone", 17, 18))),
]
FOUND = [[Span(5, 17, "email", 0.9)], [Span(4, 15, "email", 0.9), Span(17, 18, "phone", 0.9)]]


def test_a_span_is_right_where_kind_start_and_end_are() -> None:
    assert tally(SENTENCES, FOUND, "email") == Tally(2, 2, 1)
    assert tally(SENTENCES, FOUND, "phone") == Tally(1, 1, 1)
    assert (Tally(4, 2, 1).recall, Tally(4, 2, 1).precision, Tally(4, 2, 1).f1) == (0.25, 0.5, pytest.approx(1 / 3))
    recall, precision, f1 = scores(SENTENCES, FOUND, [[], FOUND[1]], "email")
    assert (recall.ours, recall.other, recall.value, recall.floor, recall.holds) == (0.5, 0.0, 0.5, 0.0, True)
    assert precision.floor is f1.floor is None
    (recall, *_) = scores(SENTENCES, [[], []], FOUND, "email")
    assert not recall.holds


def test_leaks_are_values_that_still_stand_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a key for this test")
    assert leaks(SENTENCES) == (1, 3)  # the digit 8 is found by nobody
    assert leaks(SENTENCES, kinds=["phone"]) == (3, 3)


def test_the_rate_is_a_ratio_of_the_same_work() -> None:
    row = rate_rows(["Mail ann@corp.com, card 4111 1111 1111 1111"] * 300, Patterns(), Patterns(), 5)
    assert 0.4 < row.value < 2.5
    assert row.floor == anonymize.FASTER
    assert not row.holds


def test_presidios_analyzer_settles_the_taggers_spans_by_its_own_rules() -> None:
    """Of one kind, what lies within another leaves; what is unsure does too; other kinds may overlap."""
    pytest.importorskip("presidio_analyzer", reason="the extra presidio")

    class Given:
        def find(self, text: str) -> list[Span]:
            return [
                Span(0, 7, "person", 0.9),
                Span(0, 3, "person", 0.8),
                Span(4, 7, "place", 0.7),
                Span(8, 11, "place", 0.4),
            ]

    found = in_analyzer(Given())("Ann Ulm met ann@corp.com")
    assert sorted((span.start, span.end, span.kind) for span in found) == [(0, 7, "person"), (4, 7, "place")]


def test_known_spans_are_read_by_our_names(tmp_path: Path) -> None:
    span = {"entity_type": "EMAIL_ADDRESS", "start_position": 5, "end_position": 17}
    name = {"entity_type": "PERSON", "start_position": 0, "end_position": 4}
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"full_text": "Mail ann@corp.com", "spans": [span, name]}]))
    assert read(file, anonymize.KINDS) == [SENTENCES[0]]
    assert read(file, anonymize.NAMES) == [Sentence("Mail ann@corp.com", (("person", 0, 4),))]
