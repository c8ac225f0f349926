"""A model of some of another's layers computes what the other would with the rest left out, and loads as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conformance.world import load
from small_runs import label_records, lm_recipe, write_jsonl
from tiny import make_llama, make_tokenizer

import luthier
from luthier.core.errors import ModelError, RecipeError
from luthier.core.recipe import Recipe
from luthier.models.changed import keep_layers
from luthier.models.export import reload, save_model
from luthier.models.load import load_model

IDS = torch.tensor([[7, 3, 9, 5]])


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_what_stays_computes_as_before(kind: str, tmp_path: Path) -> None:
    if kind == "llama":
        folder = tmp_path / "deep"
        make_llama(num_hidden_layers=4).save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        whole, numbers = load_model(str(folder), "causal_lm"), (0, 3)
    else:
        whole, numbers = load("bert", "sequence_classification", {"classes": ["a", "b"]}), (1,)
    small = keep_layers(whole, numbers)
    with torch.no_grad():
        found = small.model(input_ids=IDS).logits
        layers = whole.model.model.layers if kind == "llama" else whole.model.bert.encoder.layer
        for number in reversed(range(len(layers))):
            if number not in numbers:
                del layers[number]
        assert torch.equal(found, whole.model(input_ids=IDS, use_cache=False).logits)
    assert small.description["parameters"] < whole.description["parameters"]
    assert small.model.config.num_hidden_layers == len(numbers)
    if kind == "llama":
        save_model(small.model, small.tokenizer, tmp_path / "small")
        again = reload(tmp_path / "small", "causal_lm", torch.float32, torch.device("cpu"))
        with torch.no_grad():
            assert torch.equal(again.model(input_ids=IDS).logits, found)


def test_layers_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="2 layers, 0 to 1, and keep_layers names 2"):
        keep_layers(load("llama", "causal_lm", {}), (0, 2))
    recipe = lm_recipe(Path("x"), tmp_path)
    recipe["phases"][0]["keep_layers"] = [1, 0, 1]
    with pytest.raises(RecipeError, match="keep_layers is"):
        Recipe.of(recipe)


def test_a_recipe_trains_a_student_of_one_layer(llama_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", [{"text": record["text"]} for record in label_records(24)])
    recipe = lm_recipe(llama_folder, data, steps=2, adaptation="full", checks=["parity"])
    recipe["phases"][0]["keep_layers"] = [1]
    run = luthier.run(recipe, out=tmp_path / "run")
    assert run.value("parity.max_difference", "reloaded") < 1e-3
    assert load_model(str(run.model), "causal_lm").model.config.num_hidden_layers == 1
