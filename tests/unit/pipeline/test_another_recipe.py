"""A folder with a trained run is not given to a recipe of another name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import chat_records, lm_recipe, write_jsonl

import luthier
from luthier.core.errors import RecipeError
from luthier.core.recipe_file import dump, load_recipe


def test_another_recipe_does_not_undo_a_training(tmp_path: Path, llama_folder: Path) -> None:
    given = lm_recipe(llama_folder, write_jsonl(tmp_path / "rows.jsonl", chat_records(12)))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(dump(load_recipe(given)))
    manifest = {"name": "small", "stages": {"prepare": {}, "train sft": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RecipeError, match="a trained run of the recipe 'small', and this one is 'other'"):
        luthier.run({**given, "name": "other"}, out=folder)
    assert {path: path.read_bytes() for path in before} == before
    # Without a training nothing is lost, and the same name goes on.
    luthier.run(given, out=folder, until="prepare")
    (folder / "manifest.json").write_text(json.dumps({**manifest, "stages": {"prepare": {}}}))
    luthier.run({**given, "name": "other"}, out=folder, until="prepare")
    assert load_recipe(folder / "recipe.yaml").name == "other"
