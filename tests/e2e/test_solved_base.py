"""What base is where the classifier is found at once: the same classifier on the body as it was, or none at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import class_recipe, label_records, write_jsonl

import luthier
from luthier.core.run import read_events
from luthier.pipeline import Run


def solved(model: Path, data: Path, *before: dict[str, Any]) -> dict[str, Any]:
    recipe = class_recipe(model, data, checks=["classification"])
    recipe["phases"] = [*before, {"name": "found", "objective": "classify", "adaptation": "classic"}]
    return recipe


def notes(run: Run) -> list[str]:
    texts = (event["text"] for event in read_events(run.folder / "events.jsonl") if event["event"] == "note")
    return [text for text in texts if text.startswith("the base of")]


def told(run: Run, subject: str) -> set[str | None]:
    return {one.note for one in run.findings if one.subject == subject and one.group is None}


@pytest.fixture(scope="module")
def runs(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The classifier alone, and after a phase that moved the body."""
    place = tmp_path_factory.mktemp("solved")
    data = write_jsonl(place / "rows.jsonl", label_records(120))
    moved = {"name": "near", "objective": "contrast", "adaptation": "full", "steps": 3, "per_step": {"rows": 8}}
    return (
        luthier.run(solved(bert_folder, data), out=place / "alone"),
        luthier.run(solved(bert_folder, data, moved), out=place / "after"),
    )


def test_after_a_phase_it_is_the_same_classifier_on_the_body_as_it_was(runs: tuple[Run, Run]) -> None:
    alone, after = runs
    for metric in ("accuracy", "macro_f1"):
        base = next(f for f in after.findings if (f.metric, f.subject, f.group) == (metric, "base", None))
        assert base.value == alone.value(f"classification.{metric}")
    (note,) = notes(after)
    assert note.endswith("the body as it was before the first phase, with what the last one finds on it")


def test_alone_it_knows_no_class_since_the_other_would_be_the_result(runs: tuple[Run, Run]) -> None:
    alone, _ = runs
    (note,) = notes(alone)
    assert note.endswith("a head as it was made, which knows no class")
    assert told(alone, "base") != told(alone, "tuned")
    base = next(f for f in alone.findings if (f.metric, f.subject, f.group) == ("accuracy", "base", None))
    assert base.value < alone.value("classification.accuracy")
    assert not (alone.folder / "phases" / "0-base").exists()
