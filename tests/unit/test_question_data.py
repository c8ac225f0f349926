"""The embedded questions are what their generator says: each answer stands where it is said to, and once."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import make_question_data as made  # noqa: E402

from luthier.core.recipe import Source  # noqa: E402
from luthier.data.read import read  # noqa: E402

FILE = ROOT / "src/luthier/embedded/data/shop-questions.json"


def notes() -> list[tuple[str, list[dict[str, Any]]]]:
    articles = json.loads(FILE.read_text(encoding="utf-8"))["data"]
    return [(paragraph["context"], paragraph["qas"]) for article in articles for paragraph in article["paragraphs"]]


def test_the_generator_rewrites_the_file_byte_for_byte() -> None:
    assert made.text().encode() == FILE.read_bytes()
    assert len(FILE.read_bytes()) < 150_000


def test_answers_stand_in_their_notes_once() -> None:
    found = notes()
    assert len(found) == made.NOTES
    for context, asked in found:
        for row in asked:
            for answer in row["answers"]:
                assert context.startswith(answer["text"], answer["answer_start"])
                assert len(re.findall(rf"\b{re.escape(answer['text'])}\b", context, re.IGNORECASE)) == 1
        assert [bool(row["answers"]) for row in asked] == [True, True, True, False]


def test_no_instrument_takes_another_article() -> None:
    assert not any(re.search(r"\b[Aa] [aeiou]", context) for context, _ in notes())


def test_they_are_read_as_questions_on_passages() -> None:
    examples = read([Source(path="embedded:shop-questions")], split_by="title").examples
    assert len(examples) == 4 * made.NOTES
    assert {"question", "context"} == set(examples[0].parts)
    assert {example.groups["title"] for example in examples} == {f"note-{n:03d}" for n in range(1, made.NOTES + 1)}
    assert sum(not example.target for example in examples) == made.NOTES
