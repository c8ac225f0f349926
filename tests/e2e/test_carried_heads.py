"""A head that was new is exported with what trained or replaced it, and never as what nobody trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import class_recipe, label_records, write_jsonl
from transformers import AutoModelForSequenceClassification

import luthier
from luthier.cli.main import main
from luthier.core.errors import ModelError
from luthier.data.judge import open_judge
from luthier.models.carried import superseded
from luthier.models.export import reload
from luthier.models.files import CARRIED, CARRIED_SPEC
from luthier.models.load import load_model
from luthier.models.source import source_digest
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
    spec = json.loads((run.model / CARRIED / CARRIED_SPEC).read_text())
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
    again = load_model(str(run.model), "sequence_classification", seed=5)  # no weight is drawn that stays
    for (name, one), (_, other) in zip(loaded.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_base_that_lost_more_than_that_is_refused(run: Run, tmp_path: Path) -> None:
    spec = run.model / CARRIED / CARRIED_SPEC
    kept = spec.read_text()
    try:
        spec.write_text(json.dumps({name: value for name, value in json.loads(kept).items() if name != "left_out"}))
        with pytest.raises(ModelError, match="lacks"):
            reload(run.model, "sequence_classification")
    finally:
        spec.write_text(kept)


@pytest.fixture
def alone(run: Run, tmp_path: Path) -> Path:
    """The exported folder, copied without what lies in folders of it."""
    folder = tmp_path / "model"
    shutil.copytree(run.model, folder, ignore=shutil.ignore_patterns(CARRIED))
    return folder


def test_nothing_answers_by_a_head_that_was_made_up(
    alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": "The bow is fine."}])
    with pytest.raises(SystemExit):
        main(["generate", str(alone), "The bow is fine."])
    assert "lacks classifier.bias, classifier.weight" in capsys.readouterr().err
    with pytest.raises(ModelError, match=r"it lacks classifier\.bias"):
        luthier.prepare(str(rows), steps=[{"toxicity": {"model": str(alone), "labels": ["good"]}}])


def test_what_is_carried_belongs_to_the_digest(run: Run, alone: Path) -> None:
    shutil.copytree(run.model / CARRIED, alone / CARRIED)
    before = source_digest(str(alone))
    assert before == source_digest(str(run.model))
    (weights,) = (alone / CARRIED).glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert source_digest(str(alone)) != before


def test_a_description_that_lists_no_names_is_refused(run: Run, alone: Path) -> None:
    shutil.copytree(run.model / CARRIED, alone / CARRIED)
    spec = alone / CARRIED / CARRIED_SPEC
    for damaged in ("classifier.weight", [1], {"a": 1}):
        spec.write_text(json.dumps(json.loads(spec.read_text()) | {"left_out": damaged}))
        with pytest.raises(ModelError, match="cannot be understood"):
            reload(alone, "sequence_classification")


def test_a_weight_of_two_names_is_there_by_both() -> None:
    model = torch.nn.Module()
    model.one = torch.nn.Linear(2, 2)
    model.other = torch.nn.Linear(2, 2)
    model.other.bias = model.one.bias
    frozen = SimpleNamespace(groups=lambda _: [])
    assert superseded(frozen, model, ["one.bias", "other.bias", "gone.bias"]) == {"gone.bias"}  # type: ignore[arg-type]


def test_a_judge_without_its_head_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    given = {"num_labels": 1, "ignore_mismatched_sizes": True}
    model = AutoModelForSequenceClassification.from_pretrained(bert_folder, **given)
    body = {name: weight for name, weight in model.state_dict().items() if not name.startswith("classifier.")}
    shutil.copytree(bert_folder, tmp_path, dirs_exist_ok=True)
    model.save_pretrained(tmp_path, state_dict=body)
    with pytest.raises(ModelError, match=r"the model lacks classifier\.bias"):
        open_judge(str(tmp_path))
