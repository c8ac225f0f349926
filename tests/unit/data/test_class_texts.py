"""The step class_texts: which rows stand for classes, what they say, what is refused; zero-shot by the nearest one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import class_recipe, label_records, write_jsonl

import luthier
from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.errors import DataError, RecipeError
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger
from luthier.functional.class_words import in_words


def run(examples: list[Example], **parameters: Any) -> tuple[list[Example], Ledger]:
    ledger = Ledger()
    step = build("steps", {"class_texts": parameters})
    context = StepContext("train", 1, ledger.page("train", "class_texts"))
    return list(step.run(iter(examples), context)), ledger  # type: ignore[attr-defined]


def labeled(*labels: Any) -> list[Example]:
    return [Example(f"r{n}", {"text": f"row {n}"}, Origin("f", n + 1), label) for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("card_arrival", "card arrival"),
        ("card-arrival.late", "card arrival late"),
        ("CardArrival", "Card Arrival"),
        ("Refund_not_showing_up?", "Refund not showing up?"),
        ("__a__b__", "a b"),
        ("GDP", "GDP"),
        ("été_2026", "été 2026"),
        ("___", "___"),
    ],
)
def test_names_become_words(name, words):
    assert in_words(name) == words


def test_each_class_is_a_row_and_the_rows_go_to_the_ledger():
    kept, ledger = run(labeled("b_two", "a_one", "b_two"), texts={"a_one": "the first"}, template="On {}.")
    assert [(row.target, row.parts["text"]) for row in kept] == [("a_one", "On the first."), ("b_two", "On b two.")]
    assert [(row.origin.parents, row.origin.synthetic) for row in kept] == [(("r1",), True), (("r0",), True)]
    assert [entry.id for entry in ledger.entries if entry.action == "dropped"] == ["r0", "r1", "r2"]
    assert [entry.id for entry in ledger.entries if entry.action == "added"] == [
        "class_texts:a_one",
        "class_texts:b_two",
    ]


def test_rows_stay_where_asked_and_lists_of_classes_stay_lists():
    kept, ledger = run(labeled(("x", "y"), (), ("y",)), keep=True)
    assert [row.target for row in kept] == [("x", "y"), (), ("y",), ("x",), ("y",)]
    assert {entry.action for entry in ledger.entries} == {"added"}


def test_without_labels_texts_names_the_classes():
    kept, _ = run(labeled(None, None), texts={"good": "praise", "bad": "a complaint"})
    assert [(row.target, row.parts["text"]) for row in kept] == [("bad", "a complaint"), ("good", "praise")]


def test_what_does_not_go_together_is_refused():
    with pytest.raises(DataError, match="none of 2 training rows has a class"):
        run(labeled(None, None))
    with pytest.raises(DataError, match="the class 'god', which no training row has") as caught:
        run(labeled("good", "bad"), texts={"god": "praise"})
    assert caught.value.problems[0].remedy == "did you mean 'good'?"
    with pytest.raises(DataError, match=r"row 'r0' is no class but 0\.5"):
        run(labeled(0.5))
    tagged = Example("t", {"tokens": "Ada came"}, Origin("f", 1), ("B-PER", "O"))
    with pytest.raises(DataError, match="no class but tags or answers"):
        run([tagged])
    with pytest.raises(RecipeError, match="0 places for the words"):
        build("steps", {"class_texts": {"template": "no place"}})


def test_zero_shot_is_the_class_whose_words_lie_nearest(bert_folder: Path, tmp_path: Path):
    """A run's answers are those of cosines between texts and names, by the embedder, and no row's class is learned."""
    from luthier.cli.talk import classify
    from luthier.models.embed import load_embedder

    records = label_records(30)
    recipe = class_recipe(
        bert_folder,
        write_jsonl(tmp_path / "rows.jsonl", records),
        adaptation={"classic": {"kind": "centroid", "c": 20}},
        checks=["classification"],
    )
    del recipe["phases"][0]["epochs"]
    recipe["data"] |= {"steps": ["class_texts"], "validation": None}
    done = luthier.run(recipe, out=tmp_path / "run")
    embedder = load_embedder(str(bert_folder))
    names = ["bad", "good", "odd"]
    for record in records[:4]:
        cosines = 20 * embedder.embed([record["text"]])[0] @ embedder.embed(names).T
        wanted = np.exp(cosines - cosines.max()) / np.exp(cosines - cosines.max()).sum()
        found = dict(classify(done.folder, record["text"]))
        np.testing.assert_allclose([found[name] for name in names], wanted, atol=1e-4)
