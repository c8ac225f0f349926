"""The contamination experiment: words are edited in the stated share, and what is planted is what is counted."""

from __future__ import annotations

import random

import pytest

from experiments import contamination
from luthier.core.example import Example, Origin, Turn


def rows(name: str, tales: int) -> list[Example]:
    """Tales of 60 words, two questions each."""
    found = []
    for tale in range(tales):
        passage = " ".join(f"{name}{tale}w{number}" for number in range(60)) + "."
        for question in range(2):
            asked = " ".join(f"{name}{tale}q{question}{number}" for number in range(9)) + "?"
            told = " ".join(f"{name}{tale}a{question}{number}" for number in range(6))
            turns = (Turn("user", f"{passage}\n\n{asked}"), Turn("assistant", told))
            found.append(Example(f"{name}:{tale}:{question}", {"messages": turns}, Origin("f", 1), (told,)))
    return found


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_so_many_words_are_edited_over_all_texts(share: float) -> None:
    texts = [" ".join(f"a{number}" for number in range(150)), "\n\n".join(f"b{number}" for number in range(50))]
    changed = contamination.edited(texts, share, ["new"], random.Random(1))
    gone = sum(word not in changed[place].split() for place, text in enumerate(texts) for word in text.split())
    added = sum(text.split().count("new") for text in changed)
    edits = round(share * 200)
    assert gone + added > edits * 1.1  # a replaced word is gone and another is there
    assert gone < edits
    assert added < edits
    assert contamination.edited(texts, 0.0, ["new"], random.Random(1)) == texts


def test_copies_are_found_and_shared_passages_told() -> None:
    given = contamination.planted(rows("train", 20), rows("test", 30), 0.1, 12)
    assert len(given.train) == 40 + 12 + 12
    held_out = {row.id for row in given.held_out}
    assert set(given.copies.values()) <= held_out
    assert {name.removeprefix("passage:") for name in given.passages}.isdisjoint(held_out)
    assert all(row.target is None for row in given.train if row.id in given.copies)
    recall, precision, named, told, called = contamination.measured(given, 0.1, 0.95)
    assert (recall.value, precision.value, named.value, told.value, called.value) == (1, 1, 1, 1, 0)
    assert recall.holds
    assert (
        precision.other == 0.5
    )  # the shared passages have thirteen words in a row, and no row of the training set has


def test_intervals_of_shares_are_wilsons() -> None:
    assert contamination.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert contamination.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert contamination.wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
