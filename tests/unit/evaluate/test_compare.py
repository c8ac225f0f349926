"""Two run folders on the same items: paired, and refused with the reason where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from luthier.core.errors import DataError
from luthier.core.evidence import CheckContext
from luthier.core.example import Example, Origin
from luthier.evaluate.compare import compare
from luthier.evaluate.scores import write_scores


def items(count: int = 30, start: int = 0) -> list[Example]:
    return [
        Example(f"t:{i}", {"text": f"item {i}"}, Origin("t.csv", i + 1), target="ab"[i % 2])
        for i in range(start, start + count)
    ]


def run_folder(path: Path, hits, examples, checks: str = "classification", classes=("a", "b")) -> Path:
    recipe = (
        f"name: r\nmodel: m\ndata: {{train: t.csv, test: 0.1}}\nphases: [{{objective: classify}}]\nchecks: [{checks}]\n"
    )
    (path / "phases" / "1-train").mkdir(parents=True)
    (path / "recipe.yaml").write_text(recipe)
    facts = {"classes": list(classes), "multi_label": False}
    (path / "phases" / "1-train" / "facts.json").write_text(json.dumps(facts))
    context = CheckContext(facts, 1, lambda path: ())
    gold = np.array([0 if example.target == "a" else 1 for example in examples])
    hits = np.asarray(hits)
    pairs = np.stack([gold, np.where(hits == 1, gold, 1 - gold)], axis=1)
    values = {"accuracy": hits[:, None].astype(float), "pairs": pairs.astype(float)}
    write_scores(path / "scores", "classification", "tuned", context.scores(examples, values))
    return path


def test_the_second_minus_the_first_on_the_same_items(tmp_path):
    a = run_folder(tmp_path / "a", [1] * 10 + [0] * 20, items())
    b = run_folder(tmp_path / "b", [0] * 2 + [1] * 18 + [0] * 10, items())
    found = compare(a, b)
    accuracy = {finding.subject: finding for finding in found if finding.metric == "accuracy"}
    assert accuracy["a"].value == pytest.approx(10 / 30)
    assert accuracy["b"].value == pytest.approx(18 / 30)
    assert accuracy["change"].value == pytest.approx(8 / 30)
    assert accuracy["change"].against == "a"
    assert "10 rows gained, 2 lost" in accuracy["change"].note
    assert {finding.metric for finding in found} == {"accuracy", "macro_f1", "precision", "recall"}
    assert all(finding.p is None for finding in found if finding.group)


def test_other_items_are_refused_with_the_shared_number(tmp_path):
    a = run_folder(tmp_path / "a", [1] * 30, items())
    b = run_folder(tmp_path / "b", [1] * 30, items(start=10))
    with pytest.raises(DataError, match="30 and 30 rows, 20 shared"):
        compare(a, b)


def test_the_same_ids_with_other_content_are_refused(tmp_path):
    changed = items()
    changed[3] = Example(changed[3].id, {"text": "another question"}, changed[3].origin, changed[3].target)
    a = run_folder(tmp_path / "a", [1] * 30, items())
    b = run_folder(tmp_path / "b", [1] * 30, changed)
    with pytest.raises(DataError, match="29 shared, 1 with the same id but other content"):
        compare(a, b)


def test_other_parameters_other_classes_and_one_folder_twice_are_refused(tmp_path):
    a = run_folder(tmp_path / "a", [1] * 30, items())
    b = run_folder(tmp_path / "b", [1] * 30, items(), checks="{classification: {per_class: false}}")
    c = run_folder(tmp_path / "c", [1] * 30, items(), classes=("a", "b", "c"))
    with pytest.raises(DataError, match="other parameters"):
        compare(a, b)
    with pytest.raises(DataError, match="other classes"):
        compare(a, c)
    with pytest.raises(DataError, match="given twice"):
        compare(a, a)


def test_a_folder_of_seeds_points_to_one(tmp_path):
    a = run_folder(tmp_path / "a", [1] * 30, items())
    run_folder(tmp_path / "b" / "seeds" / "seed-2", [1] * 30, items())
    with pytest.raises(DataError, match=r"compare one seed's run: .*seed-2"):
        compare(a, tmp_path / "b")
    with pytest.raises(DataError, match="finish the run"):
        compare(a, tmp_path)


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    a = run_folder(tmp_path / "x" / "run", [1] * 30, items())
    b = run_folder(tmp_path / "y" / "run", [0] * 30, items())
    assert {finding.subject for finding in compare(a, b)} == {str(a), str(b), "change"}
