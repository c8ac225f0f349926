"""Spans of tags as conlleval and seqeval read them, and the likeliest tags that make sense together."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from luthier.functional.tagging import as_bio, as_bioes, best_path, follows, kinds_of, labels_of, spans_of


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("O I-PER I-LOC I-LOC", [("PER", 1, 2), ("LOC", 2, 4)]),  # what goes on with nothing, or another kind, opens
        ("S-PER B-LOC I-LOC E-LOC O", [("PER", 0, 1), ("LOC", 1, 4)]),
        ("E-PER S-PER E-PER", [("PER", 0, 1), ("PER", 1, 2), ("PER", 2, 3)]),
        ("NOUN VERB O", []),
        ("", []),
    ],
)
def test_spans(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans_of(tags.split()) == expected


def test_spans_are_those_of_seqeval() -> None:
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    draw = random.Random(5)
    for labels in (labels_of(["A", "B"], "bio"), labels_of(["A", "B"], "bioes")):
        for _ in range(300):
            tags = draw.choices(labels, k=draw.randrange(1, 9))
            theirs = [(kind, begin, end + 1) for kind, begin, end in get_entities(tags)]
            assert spans_of(tags) == theirs, tags


def test_either_scheme_keeps_the_spans() -> None:
    tags = ["B-PER", "B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC"]
    assert as_bioes(tags) == ["S-PER", "B-PER", "I-PER", "E-PER", "O", "B-LOC", "E-LOC"]
    assert as_bio(as_bioes(tags)) == tags


def test_kinds_and_labels() -> None:
    assert kinds_of(["O", "I-B", "B-A"]) == ["A", "B"]
    assert kinds_of(["NOUN", "I", "B"]) is None
    assert labels_of(["A"], "bioes") == ["O", "B-A", "I-A", "E-A", "S-A"]


@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_the_best_path_is_the_best_of_all_that_make_sense(scheme) -> None:
    """Held against every sequence of five words there is."""
    labels = labels_of(["A"] if scheme == "bioes" else ["A", "B"], scheme)
    draw = np.random.default_rng(3)
    allowed = [
        path
        for path in itertools.product(range(len(labels)), repeat=5)
        if all(follows(a, b, scheme) for a, b in itertools.pairwise([None, *(labels[number] for number in path), None]))
    ]
    assert 0 < len(allowed) < len(labels) ** 5
    changed = 0
    for _ in range(25):
        logps = np.log(draw.dirichlet(np.ones(len(labels)), size=5))
        wanted = max(allowed, key=lambda path: sum(logps[word, label] for word, label in enumerate(path)))
        assert tuple(best_path(logps, labels, scheme)) == wanted
        changed += wanted != tuple(logps.argmax(axis=1))
    assert changed, "the likeliest tags of each word alone would do"
    assert best_path(np.zeros((0, len(labels))), labels, scheme) == []


def test_what_may_follow() -> None:
    assert follows("B-A", "I-A", "bio")
    assert not follows("B-B", "I-A", "bio")
    assert not follows(None, "I-A", "bio")
    assert not follows("O", "E-A", "bioes")
    assert not follows("B-A", "O", "bioes")
    assert not follows("B-A", None, "bioes")
    assert follows("E-A", "B-A", "bioes")
