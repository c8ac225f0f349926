"""A head that was new is exported with what trained or replaced it, and never as what nobody trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import class_recipe, label_records, write_jsonl
from transformers import AutoModelForSequenceClassification

import luthier
from luthier.core.errors import ModelError
from luthier.models.carried import FOLDER, SPEC
from luthier.models.export import reload
from luthier.pipeline import Run

ADAPTATIONS: dict[str, Any] = {"classic": {}, "prefix": {"length": 2}, "bottleneck": {"reduction": 2}}


def recipe_of(model: Path, data: Path, adaptation: str) -> dict[str, Any]:
    recipe = class_recipe(model, data, checks=["classification", "parity"])
    phase = {"name": "last", "objective": "classify", "adaptation": {adaptation: ADAPTATIONS[adaptation]}}
    recipe["phases"] = [phase if adaptation == "classic" else phase | {"steps": 3, "per_step": {"rows": 8}}]
    return recipe


@pytest.fixture(scope="module", params=ADAPTATIONS)
def run(request: pytest.FixtureRequest, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("carried-heads")
    data = write_jsonl(place / "rows.jsonl", label_records(60))
    return luthier.run(recipe_of(bert_folder, data, request.param), out=place / "run")


def test_the_new_head_lies_with_the_adaptation_alone(run: Run) -> None:
    stored = load_file(run.model / "model.safetensors")
    assert not [name for name in stored if name.startswith("classifier.")]
    spec = json.loads((run.model / FOLDER / SPEC).read_text())
    assert {"classifier.bias", "classifier.weight"} <= set(spec["left_out"])
    assert "and makes up a head, which it warns of" in (run.folder / "README.md").read_text()


def test_transformers_says_that_it_makes_one_up(run: Run) -> None:
    _, told = AutoModelForSequenceClassification.from_pretrained(run.model, output_loading_info=True)
    assert {"classifier.bias", "classifier.weight"} <= set(told["missing_keys"])


def test_luthier_reads_it_back_as_it_was(run: Run) -> None:
    (apart,) = [one for one in run.findings if one.check == "parity"]
    assert (apart.metric, apart.subject) == ("max_difference", "reloaded")
    assert apart.value < 1e-5
    loaded = reload(run.model, "sequence_classification")
    assert not loaded.fresh
    torch.manual_seed(5)  # no weight is drawn that stays
    again = reload(run.model, "sequence_classification")
    for (name, one), (_, other) in zip(loaded.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_base_that_lost_more_than_that_is_refused(run: Run, tmp_path: Path) -> None:
    spec = run.model / FOLDER / SPEC
    kept = spec.read_text()
    try:
        spec.write_text(json.dumps({name: value for name, value in json.loads(kept).items() if name != "left_out"}))
        with pytest.raises(ModelError, match="lacks"):
            reload(run.model, "sequence_classification")
    finally:
        spec.write_text(kept)
