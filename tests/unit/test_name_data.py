"""The notes of "entities" are what their generator says: tags that fit, and names and phrases training never saw."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import make_name_data as made  # noqa: E402

from luthier.core.recipe import Source  # noqa: E402
from luthier.data.read import read  # noqa: E402
from luthier.functional.tagging import spans_of  # noqa: E402


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made.FOLDER / name).read_text(encoding="utf-8").splitlines()]


def names(name: str, *kinds: str) -> set[str]:
    """Every word that is part of a span of these kinds."""
    return {
        token
        for row in rows(name)
        for token, tag in zip(row["tokens"], row["tags"], strict=True)
        if tag.partition("-")[2] in kinds
    }


def test_the_generator_rewrites_the_files_byte_for_byte() -> None:
    for name, text in made.files().items():
        assert (made.FOLDER / name).read_bytes() == text.encode("utf-8")
        assert len(rows(name)) == made.COUNTS[name]


def test_people_and_towns_that_are_measured_were_never_seen() -> None:
    train, test = made.COUNTS
    seen, asked = (names(name, "person", "town") for name in (train, test))
    assert min(len(seen), len(asked)) > 10
    assert not seen & asked
    assert names(train, "instrument") == names(test, "instrument"), "what a list can know"


def test_phrases_that_are_measured_were_never_seen() -> None:
    """Neither a note, nor the words that stand before and after a name within its sentence."""
    train, test = (rows(name) for name in made.COUNTS)
    assert not {" ".join(row["tokens"]) for row in train} & {" ".join(row["tokens"]) for row in test}
    seen, asked = ({form for row in found for form in named_forms(row)} for found in (train, test))
    assert min(len(seen), len(asked)) >= 5
    assert not seen & asked


def named_forms(row: dict[str, Any]) -> set[str]:
    """The note's sentences that name something, with the kind in the place of each name."""
    sentences: list[list[str]] = [[]]
    for token, tag in zip(row["tokens"], row["tags"], strict=True):
        if not tag.startswith("I-"):
            sentences[-1].append(f"<{tag[2:]}>" if tag != "O" else token.lower())
        if token == ".":
            sentences.append([])
    return {" ".join(words) for words in sentences if any(word.startswith("<") for word in words)}


def test_a_note_is_marked_where_it_names_something() -> None:
    notes = {" ".join(row["tokens"]): row["tags"] for row in rows("shop-names.jsonl")}
    said = "The teacher Tobias Novotna brought in a mandolin on Tuesday . It will take a week ."
    assert spans_of(notes[said]) == [("person", 2, 4), ("instrument", 7, 8)]


def test_they_are_read_as_tagged_sentences() -> None:
    examples = read([Source(path="embedded:shop-names")]).examples
    assert len(examples) == made.COUNTS["shop-names.jsonl"]
    assert {tag.partition("-")[2] for example in examples for tag in example.target or ()} - {""} == set(
        made.KINDS.values()
    )
