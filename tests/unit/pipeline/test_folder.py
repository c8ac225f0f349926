"""What a run writes, and does not, into its folder: no folder for a bad name, no phases of a recipe before this one."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import chat_records, lm_recipe

import luthier
from luthier.core.errors import RecipeError
from luthier.core.recipe import Recipe
from luthier.core.run import EventLog, RunFolder
from luthier.engine.device import choose
from luthier.engine.phase import Setting
from luthier.pipeline import stages


def test_a_bad_name_is_refused_before_a_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    with pytest.raises(RecipeError, match="name"):
        luthier.fit("embedded:nano", chat_records(4), name="../x")
    assert list(inside.iterdir()) == []
    assert list(tmp_path.iterdir()) == [inside]


def test_phases_that_the_recipe_no_longer_has_leave_the_manifest(tmp_path: Path) -> None:
    recipe = Recipe.of(lm_recipe(tmp_path, tmp_path / "rows.jsonl"))
    folder = RunFolder(tmp_path / "run")
    done = {"key": "k", "seconds": 1.0, "outputs": []}
    folder.update_manifest(
        training={"old": {"steps": 1}, "sft": {"steps": 2}},
        stages={"prepare": done, "train old": done, "train sft": done},
    )
    stages.describe(Setting(recipe, folder, choose(recipe.machine), EventLog(None), 1))
    manifest = folder.manifest()
    assert manifest["training"] == {"sft": {"steps": 2}}
    assert manifest["stages"] == {"prepare": done, "train sft": done}
