"""language: rows in other languages leave, those that cannot be told stay, whatever code and numbers stand beside."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin, Turn
from luthier.data.ledger import Entry, Ledger
from luthier.data.text.language import letters, probabilities, prose, wanted

ENGLISH = "The old mill stands by the river and has ground corn for two hundred years."
GERMAN = "Die alte Mühle steht am Fluss und mahlt seit zweihundert Jahren das Korn."
CHINESE = "那座古老的磨坊矗立在河边,两百年来一直在磨玉米。"
CODE = "```\nfor (int i = 0; i < n; i++) { total += values[i]; }\n```"


def text(content: str, row: int = 1) -> Example:
    return Example(f"r{row}", {"text": content}, Origin("f", row))


def run(rows: list[Example], **options: Any) -> tuple[list[str], list[Entry], dict[str, Any]]:
    ledger = Ledger()
    context = StepContext("train", 1, ledger.page("train", "language"))
    kept = list(build("steps", {"language": options}).run(rows, context))
    return [row.id for row in kept], ledger.entries, context.facts


def test_rows_in_other_languages_leave_with_language_and_probability() -> None:
    rows = [text(ENGLISH, 1), text(GERMAN, 2), text(CHINESE, 3)]
    kept, entries, facts = run(rows)
    assert kept == ["r1"]
    assert [(e.id, e.action, e.reason[:22]) for e in entries] == [
        ("r2", "dropped", "another language: de ("),
        ("r3", "dropped", "another language: zh ("),
    ]
    assert facts == {"languages": {"de": 1, "en": 1, "zh": 1}}
    assert run(rows, keep=["de", "zh"])[0] == ["r2", "r3"]


def test_what_is_too_short_or_no_language_stays_and_is_noted() -> None:
    rows = [text("Genau!", 1), text("4711 0815 12.50 2024-01-02", 2), text("https://example.org/der/weg/zum/glück", 3)]
    kept, entries, facts = run(rows)
    assert kept == ["r1", "r2", "r3"]
    assert [(e.action, e.reason) for e in entries] == [
        ("noted", "language unknown: 5 letters"),
        ("noted", "language unknown: 0 letters"),
        ("noted", "language unknown: 0 letters"),
    ]
    assert facts == {"languages": {"unknown": 3}}
    assert run(rows, shortest=5)[1][0].reason.startswith(("another language: ", "language unknown: "))


def test_what_the_identifier_calls_no_language_stays() -> None:
    kept, entries, _ = run([text("qwrtz xkcdv bnmpl zzxxy kkjjh ggffd")])
    assert kept == ["r1"]
    assert entries[0].reason == "language unknown: zxx (1.00)"


def test_the_threshold_is_that_of_all_unwanted_languages_together() -> None:
    doubtful = "Neudefinition von Scriptelement im Device"
    shares = probabilities(prose(doubtful))
    best = next(iter(shares))
    outside = 1 - shares["en"]
    assert best != "en"
    assert 0.5 < outside < 1
    assert run([text(doubtful)], confidence=outside - 1e-9)[0] == []
    kept, entries, _ = run([text(doubtful)], confidence=min(1.0, outside + 1e-9))
    assert kept == ["r1"]
    assert entries[0].reason == f"language unknown: {best} ({shares[best]:.2f})"


def test_code_beside_the_words_does_not_count() -> None:
    turns = (Turn("user", "Schreib eine Schleife, die alle Werte addiert, bitte."), Turn("assistant", CODE))
    row = Example("r1", {"messages": turns}, Origin("f", 1))
    assert run([row], keep=["de"])[0] == ["r1"]
    assert run([row], keep=["en"])[1][0].kind == "another language"
    table = "| der | Weg |\n|---|---|"
    addresses = "www.a.de or me@b.org and a/b/c.txt on #tag <br> the 3rd"
    assert (
        prose(f"See {json.dumps({'der': 'Weg'})}, `int x`\n{table}\nat {addresses} end") == "See , at or and on the end"
    )


def test_a_macrolanguage_has_its_members() -> None:
    assert wanted(["zh", "en"]) == {"zh", "wuu", "yue", "en"}


def test_an_unknown_code_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="'eng' is not known") as error:
        run([text(ENGLISH)], keep=["eng"])
    assert "did you mean 'en'?" in str(error.value)


def test_letters_of_scripts_that_write_words_count_more() -> None:
    assert (letters("ab 1c!"), letters("磨坊"), letters("")) == (3, 6, 0)


@pytest.mark.parametrize(("code", "least"), [("en", 0.99), ("de", 0.99)])
def test_questions_of_known_language(data_file, code: str, least: float) -> None:
    articles = json.loads(data_file(f"tasks/xquad/xquad.{code}.json").read_text(encoding="utf-8"))["data"]
    asked = [item["question"] for article in articles for p in article["paragraphs"] for item in p["qas"]]
    rows = [text(question, number) for number, question in enumerate(asked)]
    kept, _, _ = run(rows, keep=[code])
    assert len(kept) / len(rows) >= least
    others, _, _ = run(rows, keep=["fr"])
    assert len(others) / len(rows) <= 0.12  # mostly those that are too short


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_stays_or_is_in_the_ledger(contents: list[str]) -> None:
    rows = [text(content, number) for number, content in enumerate(contents)]
    kept, entries, facts = run(rows)
    dropped = [entry.id for entry in entries if entry.action == "dropped"]
    assert sorted(kept + dropped) == sorted(row.id for row in rows)
    assert sum(facts["languages"].values()) == len(rows)
