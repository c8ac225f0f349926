"""semantic_deduplicate: rows alike in meaning leave, the row that stays is named; clusters as worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.example import Example, Origin, Turn
from luthier.data.ledger import Entry, Ledger
from luthier.functional.kmeans import spherical_kmeans, unit
from luthier.models import embed

COLORS = {"red": 0.0, "crimson": 12.0, "scarlet": 20.0, "orange": 40.0, "green": 120.0, "lime": 130.0, "blue": 240.0}
"""Words as directions in the plane, in degrees: cos 12° = 0.978, cos 20° = 0.940, cos 8° = 0.990."""


class Plane:
    """An encoder that knows colors: the mean of the directions of the colors in a text."""

    width = 3

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        found = np.zeros((len(texts), 3), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                angle = np.deg2rad(COLORS.get(word, 0.0))
                found[row] += (np.cos(angle), np.sin(angle), 0) if word in COLORS else (0, 0, 1e-6)
        return found


@pytest.fixture(autouse=True)
def plane(monkeypatch: pytest.MonkeyPatch) -> Plane:
    found = Plane()
    monkeypatch.setattr(embed, "load_embedder", lambda source: found)
    return found


def text(content: str, name: str, target: Any = None) -> Example:
    return Example(name, {"text": content}, Origin("f", 1), target)


def chat(prompt: str, answer: str, name: str) -> Example:
    return Example(name, {"messages": (Turn("user", prompt), Turn("assistant", answer))}, Origin("f", 1))


def run(
    rows: list[Example], others: dict[str, list[Example]] | None = None, split: str = "train", **options: Any
) -> tuple[list[str], list[Entry], dict[str, Any]]:
    ledger, facts = Ledger(), {}
    step = build("steps", {"semantic_deduplicate": options})
    context = StepContext(split, 1, ledger.page(split, "semantic_deduplicate"), others or {}, facts)
    return [row.id for row in step.run(rows, context)], list(ledger.entries), facts


def test_a_removed_row_is_alike_to_the_row_that_stays() -> None:
    """Scarlet is near crimson, and crimson leaves: scarlet, which is not near enough to red, stays."""
    kept, entries, facts = run([text(color, color) for color in ("red", "crimson", "scarlet", "green")])
    assert kept == ["red", "scarlet", "green"]
    assert [(entry.id, entry.of, entry.reason) for entry in entries] == [("crimson", "red", "alike in meaning: 0.978")]
    assert (facts["clusters"], facts["removed"]) == (1, 1)


def test_the_farthest_from_the_centroid_stays_on_request() -> None:
    """The mean of red, crimson and orange lies at 17°: orange is farthest, then red; crimson leaves for red."""
    rows = [text(color, color) for color in ("crimson", "red", "orange")]
    assert run(rows)[0] == ["crimson", "orange"]
    kept, entries, _ = run(rows, keep="farthest")
    assert kept == ["red", "orange"]
    assert (entries[0].id, entries[0].of) == ("crimson", "red")


def test_each_of_question_answer_and_passage_must_be_alike() -> None:
    passage = "said " * 60
    rows = [
        chat("is it red", "blue it is", "a"),
        chat("is it crimson", "blue it was", "same"),
        chat("is it red", "green it is", "other answer"),
        chat(f"lime {passage}. so it is what now. is it red", "blue it is", "with a passage"),
        text("is it red", "without an answer"),
    ]
    kept, entries, _ = run(rows)
    assert [entry.id for entry in entries] == ["same"]
    assert kept == ["a", "other answer", "with a passage", "without an answer"]


def test_numbers_classes_and_calls_must_be_equal() -> None:
    def call(name: str, city: str) -> Example:
        turn = Turn("assistant", "", extra={"tool_calls": [{"name": "weather", "arguments": {"city": city}}]})
        return Example(name, {"messages": (Turn("user", "red"), turn)}, Origin("f", 1))

    rows = [
        text("red costs 12 euros", "a", "cheap"),
        text("red costs 21 euros", "b", "cheap"),
        text("crimson costs 12 euros", "c", "dear"),
        text("crimson costs 12 euros", "d", "cheap"),
        call("e", "Vienna"),
        call("f", "Cremona"),
    ]
    kept, entries, _ = run(rows)
    assert kept == ["a", "b", "c", "e", "f"]
    assert [(entry.id, entry.of) for entry in entries] == [("d", "a")]


def test_long_texts_are_read_to_their_end_and_equal_texts_once(plane: Plane) -> None:
    filler = "so " * 200
    kept, _, _ = run([text(f"{filler} red", "a"), text(f"{filler} green", "b"), text(f"{filler} crimson", "c")])
    assert kept == ["a", "b"]
    assert max(len(piece.split()) for piece in plane.asked) <= 150
    plane.asked.clear()
    run([text("red", "a"), text("red", "b")])
    assert plane.asked == ["red"]


def test_copies_across_splits_are_noted_and_leave_train_on_request() -> None:
    rows = [text("red", "a"), text("green", "b")]
    test = [text("blue", "t1"), text("crimson", "t2"), text("red", "t3")]
    kept, entries, facts = run(rows, {"test": test})
    assert kept == ["a", "b"]
    told = [("noted", "a", "t3", "alike in meaning in test: 1.000")]
    assert [(entry.action, entry.id, entry.of, entry.reason) for entry in entries] == told
    assert facts["with a copy in another split"] == 1
    assert run(rows, {"test": test}, across="drop_from_train")[0] == ["b"]
    # From the side of the test set nothing is told again, and nothing leaves it.
    assert run([text("crimson", "t2")], {"train": rows}, "test", across="drop_from_train")[:2] == (["t2"], [])


def test_blocks_and_clusters_change_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)
    names = list(COLORS)
    rows = [text(" ".join(draw.choice(names, 3)), f"r{number}") for number in range(120)]
    whole = run(rows, clusters=1)
    monkeypatch.setattr("luthier.data.steps.semantic_deduplicate._BLOCK", 7)
    assert run(rows, clusters=1)[:2] == whole[:2]
    assert len(whole[0]) < 60
    some = run(rows, clusters=5)
    assert some[2]["clusters"] == 5
    assert len(some[0]) >= len(whole[0])  # what lies in two clusters is not compared


def test_clusters_are_directions_and_repeat_themselves() -> None:
    draw = np.random.default_rng(0)
    centers = np.eye(3, dtype=np.float32)
    vectors = unit(np.concatenate([centers[i] + 0.05 * draw.normal(size=(20, 3)) for i in range(3)]).astype(np.float32))
    labels, centroids = spherical_kmeans(vectors, 3, seed=1)
    assert [len(set(labels[at : at + 20].tolist())) for at in (0, 20, 40)] == [1, 1, 1]
    assert len(set(labels.tolist())) == 3
    for label in range(3):
        assert np.allclose(centroids[label], unit(vectors[labels == label].sum(0, keepdims=True))[0], atol=1e-5)
    again, _ = spherical_kmeans(vectors, 3, seed=1)
    assert again.tolist() == labels.tolist()
    assert spherical_kmeans(vectors[:2], 5, seed=1)[1].shape == (2, 3)
    assert spherical_kmeans(np.ones((4, 3), np.float32), 3, seed=1)[0].tolist() == [0, 0, 0, 0]
