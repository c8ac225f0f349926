"""What the benchmark of contrastive training and the experiments on vectors compare: pairs, draws, held-out classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_runs import label_records, lm_recipe, write_jsonl

import luthier
from benchmarks.contrast import pairs_of
from experiments import few_shot, retrieval

ROWS = [(f"text {number}", f"class {number % 5}") for number in range(60)]


def test_pairs_share_a_class_and_no_text_comes_twice() -> None:
    classes = dict(ROWS)
    pairs = pairs_of([*ROWS, *ROWS], 25)
    assert len(pairs) == 25 == len(pairs_of(ROWS, 25))
    assert all(classes[a] == classes[b] for a, b in pairs)
    texts = [text for pair in pairs for text in pair]
    assert len(set(texts)) == len(texts)
    assert pairs == pairs_of(ROWS, 25) != pairs_of(ROWS, 25, seed=2)


def test_a_draw_has_as_many_rows_of_every_class() -> None:
    rows = few_shot.drawn(ROWS, 3, seed=1)
    assert sorted(name for _, name in rows) == sorted([f"class {number}" for number in range(5)] * 3)
    assert len(set(rows)) == 15
    assert rows != few_shot.drawn(ROWS, 3, seed=2)


def test_gains_are_paired_over_draws_and_held_against_zero() -> None:
    """A spread that both share does not widen the interval; over other controls than the first no floor is held."""
    linear = np.array([0.70, 0.80, 0.90])
    rows = few_shot.gains(8, linear + np.array([0.02, 0.03, 0.04]), linear, linear + 0.01, 0.6)
    assert [row.floor for row in rows] == [None, None, 0.0, None, None]
    assert rows[0].value == pytest.approx(0.8)
    wide = 4.302653 * 0.01 / 3**0.5  # Student's t with two degrees of freedom
    assert (rows[1].value, rows[1].low, rows[1].high) == pytest.approx((0.03, 0.03 - wide, 0.03 + wide))
    assert rows[2].value == pytest.approx(0.03 - wide)
    assert rows[2].holds
    assert [row.value for row in rows[3:]] == pytest.approx([0.02, 0.23])
    assert not few_shot.gains(5, linear - np.array([0.02, 0.03, 0.04]), linear, linear, 0.6)[2].holds


def test_intents_that_are_measured_are_never_trained_on(tmp_path: Path) -> None:
    classes = dict(ROWS)
    for shuffled in (False, True):
        files = retrieval.written(tmp_path / str(shuffled), ROWS, ROWS, 1, shuffled=shuffled, limit=None)
        train, test = (
            [json.loads(line) for line in Path(files[name]).read_text(encoding="utf-8").splitlines()]
            for name in ("train", "test")
        )
        seen = {row["label"] for row in train}
        assert len(seen) == 2
        assert seen.isdisjoint(row["label"] for row in test)
        kept = sum(classes[row["text"]] == row["label"] for row in train)
        assert (kept == len(train)) != shuffled


def test_contrast_and_then_a_classic_classifier_on_its_vectors(bert_folder: Path, tmp_path: Path) -> None:
    """The recipe few-shot in small: the second phase starts from the first one's encoder, and base from the model's."""
    data = write_jsonl(tmp_path / "rows.jsonl", label_records(24))
    changes = {"objective": "contrast", "adaptation": "full", "steps": 2, "checks": ["classification"]}
    recipe = lm_recipe(bert_folder, data, **changes)
    recipe["phases"].append({"name": "classify", "objective": "classify", "adaptation": "classic", "max_length": 96})
    run = luthier.run(recipe, out=tmp_path / "run")
    assert 0 <= run.value("classification.accuracy") <= 1
    assert (run.folder / "phases" / "1-sft" / "merged" / "modules.json").is_file()
