"""Rows with and without labels, from a file to a report: rounds of self-training, consistency, the mean teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_runs import class_recipe, label_records, write_jsonl

import luthier
from luthier.core.errors import DataError, RecipeError
from luthier.core.run import read_events
from luthier.data.ledger import Ledger

LABELED = {"classify": {"unlabeled": "leave_out"}}


def files(folder: Path) -> dict[str, Any]:
    """A training file in which every seventh row has its label, and a test file in which all have."""
    records = label_records(96)
    train = [
        {**row, "label": row["label"] if number % 7 == 0 or number < 12 else ""}
        for number, row in enumerate(records[:72])
    ]
    data = write_jsonl(folder / "train.jsonl", train)
    test = write_jsonl(folder / "test.jsonl", records[72:])
    source = {"path": str(data), "format": {"labeled": {"unlabeled": True}}}
    return {"train": source, "test": str(test), "validation": None, "steps": [{"token_edits": {"times": 2}}]}


def recipe_of(model: Path, folder: Path, *objectives: Any, **changes: Any) -> dict[str, Any]:
    recipe = class_recipe(model, folder / "none", epochs=4, checks=["classification"], **changes)
    recipe["data"] = files(folder)
    first = {**recipe["phases"][0], "name": "labeled", "objective": LABELED, "epochs": 8}
    later = [{**recipe["phases"][0], "name": f"round-{at}", "objective": one} for at, one in enumerate(objectives, 1)]
    recipe["phases"] = [first, *later]
    return recipe


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if event["event"] == kind]


def test_rounds_of_self_training(bert_folder: Path, tmp_path: Path) -> None:
    rounds = [{"self_train": {"teacher": teacher, "confidence": 0.4}} for teacher in ("labeled", "round-1")]
    recipe = recipe_of(bert_folder, tmp_path, *rounds)
    run = luthier.run(recipe, out=tmp_path / "run")
    assert run.value("classification.accuracy") > 0.6
    ledger = Ledger.read(run.folder / "phases/2-round-1/ledger.parquet")
    taken = [entry for entry in ledger.entries if entry.action == "added"]
    assert taken
    assert all(entry.step == "self_train" and entry.reason.startswith("labeled by the teacher") for entry in taken)
    told = [event["text"] for event in events(run.folder, "note") if "labeled by the teacher" in event["text"]]
    assert [event.partition(":")[0] for event in told] == ["train", "train"]
    learned = [event["terms"] for event in events(run.folder, "step") if event["phase"] == "round-2"]
    assert {*learned[0]} == {"cross_entropy", "pseudo_labels"}
    assert any(terms["pseudo_labels"] > 0 for terms in learned)

    recipe["phases"][1]["objective"] = {"self_train": {"teacher": "round-2"}}
    with pytest.raises(RecipeError, match="does not come before it"):
        luthier.run(recipe, out=tmp_path / "other")


def test_a_teacher_that_is_sure_of_nothing_is_warned_of(bert_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(bert_folder, tmp_path, {"self_train": {"teacher": "labeled", "confidence": 1.0}})
    recipe["phases"][0]["epochs"] = 1
    run = luthier.run(recipe, out=tmp_path / "run")
    (told,) = (event["text"] for event in events(run.folder, "warning"))
    entries = Ledger.read(run.folder / "phases/2-round-1/ledger.parquet").entries
    assert told.startswith(f"train: of {len(entries)} rows {len(entries)} dropped (the teacher is not sure enough")


def test_an_epoch_is_one_pass_however_often_its_rows_come(bert_folder: Path, tmp_path: Path) -> None:
    """Labeled rows are repeated, and of a row's variants an epoch takes one."""
    recipe = recipe_of(bert_folder, tmp_path, {"uda": {}})
    run = luthier.run(recipe, out=tmp_path / "run")
    training = json.loads((run.folder / "manifest.json").read_text())["training"]
    assert training["round-1"]["epochs"] == pytest.approx(4, rel=0.05)


def test_consistency_says_how_sure_the_model_is(bert_folder: Path, tmp_path: Path) -> None:
    run = luthier.run(recipe_of(bert_folder, tmp_path, {"uda": {"confidence": 0.4}}), out=tmp_path / "run")
    assert run.value("classification.accuracy") > 0.6
    sure = [event["figures"]["sure"] for event in events(run.folder, "step") if "figures" in event]
    assert all(0 <= share <= 1 for share in sure)
    assert max(sure) > 0


def test_a_mean_teacher_goes_on_where_it_was_stopped(bert_folder: Path, tmp_path: Path) -> None:
    """Its mean lies in the checkpoints: a run that is stopped and given again ends in the same bytes."""
    value = {"mean_teacher": {"decay": 0.8}}
    recipe = recipe_of(bert_folder, tmp_path, value)
    recipe["phases"] = recipe["phases"][1:]
    recipe["phases"][0] |= {"checkpoints": {"every": 2}, "steps": 6}
    recipe["phases"][0].pop("epochs")
    whole = luthier.run(recipe, out=tmp_path / "whole")
    seen: list[int] = []

    def stop(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["phase"] == "round-1":
            seen.append(record["step"])
            if len(seen) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        luthier.run(recipe, out=tmp_path / "half", listeners=[stop])
    half = luthier.run(recipe, out=tmp_path / "half", listeners=[stop])
    newest = [max((run.folder / "phases/1-round-1/checkpoints").glob("step-*")) for run in (whole, half)]
    for name in ("weights", "optimizer", "average"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in newest)
        assert first.keys() == second.keys()
        assert all(first[key].equal(value) for key, value in second.items()), name
    weights, mean = (load_file(newest[0] / f"{name}.safetensors") for name in ("weights", "average"))
    assert any(not mean[key].equal(value) for key, value in weights.items())
    first, second = (load_file(run.model / "model.safetensors") for run in (whole, half))
    assert all(first[key].equal(value) for key, value in second.items())
    # The result is the mean, not the last weights.
    assert mean.keys() <= first.keys()
    assert all(first[key].equal(value) for key, value in mean.items())


def test_a_file_in_which_every_row_has_a_label_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(bert_folder, tmp_path, "fixmatch")
    recipe["data"]["train"] = str(write_jsonl(tmp_path / "all.jsonl", label_records()))
    with pytest.raises(DataError, match="rows have a class, and nothing is left for fixmatch"):
        luthier.run(recipe, out=tmp_path / "run")
