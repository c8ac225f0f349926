"""The recipe: one schema for YAML, overrides, JSON and Python; every problem at its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from luthier.core.component import ROOMS, build, describe, find, names, summary
from luthier.core.embedded import embedded_recipes
from luthier.core.errors import BrokenComponent, RecipeError, UnknownComponent
from luthier.core.recipe import Phase, Recipe
from luthier.core.recipe_file import apply_overrides, dump, load_recipe

LEAST = {"name": "t", "model": "somewhere", "data": {"train": "rows.jsonl"}}
EVERY = [(room, name) for room in ROOMS for name in names(room)]


def refused(value: dict[str, Any], *overrides: str) -> dict[str, str]:
    """The problems of a recipe by place."""
    with pytest.raises(RecipeError) as error:
        load_recipe(value, overrides)
    return {(p.where or "").partition(": ")[2]: str(p) for p in error.value.problems}


# ---- components ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "name"), EVERY)
def test_a_component_survives_being_written_and_read(room: str, name: str) -> None:
    one = find(room, name).model_validate(dict(find(room, name).example))
    assert build(room, json.loads(json.dumps(describe(one)))) == one
    if all(not field.is_required() for field in find(room, name).model_fields.values()):
        assert describe(build(room, name)) == name
    assert summary(room, name)


def test_an_unknown_component_names_the_nearest() -> None:
    with pytest.raises(UnknownComponent, match="did you mean 'adamw'"):
        build("optimizers", "adamv")


def test_a_broken_file_is_no_unknown_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "broken_room"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "torn.py").write_text('"""Torn."""\nimport a_package_that_is_not_there\n')
    (package / "two.py").write_text(
        "from luthier.core.component import Component\nclass A(Component): ...\nclass B(Component): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ROOMS, "testrooms", "broken_room")  # type: ignore[misc]
    with pytest.raises(BrokenComponent, match="a_package_that_is_not_there") as error:
        find("testrooms", "torn")
    assert isinstance(error.value.__cause__, ModuleNotFoundError)
    with pytest.raises(BrokenComponent, match="2 public components"):
        find("testrooms", "two")


# ---- one schema ------------------------------------------------------------------------------------------------------


def test_yaml_json_and_python_are_one() -> None:
    python = Recipe(
        name="t",
        model="somewhere",
        data={"train": "rows.jsonl"},  # type: ignore[arg-type]
        phases=(Phase(adaptation=build("adaptations", {"lora": {"rank": 4}}), epochs=2),),  # type: ignore[arg-type]
    )
    plain = {**LEAST, "phases": [{"adaptation": {"lora": {"rank": 4}}, "epochs": 2}]}
    assert Recipe.of(plain) == python
    assert Recipe.of(json.loads(json.dumps(python.plain()))) == python
    assert Recipe.of(yaml.safe_load(dump(python))) == python


@pytest.mark.parametrize("name", embedded_recipes())
def test_shipped_recipes_read_back_equal(name: str) -> None:
    recipe = load_recipe(name, ["data.train=rows.jsonl", "data.validation=0.1", "data.test=0.1"])
    assert Recipe.of(yaml.safe_load(dump(recipe))) == recipe
    assert recipe.name == name


def test_yaml_numbers_and_keys(tmp_path: Path) -> None:
    """2e-4 is a number and `on` a key, as YAML 1.2 has it; 1.1 reads text and True."""
    file = tmp_path / "r.yaml"
    file.write_text(
        "name: t\nmodel: m\ndata: {train: a, test: 0.1}\n"
        "phases: [{optimizer: {adamw: {lr: 2e-4}}}]\nchecks: [{forgetting: {on: other.txt}}]\n"
    )
    recipe = load_recipe(file)
    assert recipe.phases[0].optimizer.lr == 2e-4
    assert recipe.checks[0].on == "other.txt"  # type: ignore[attr-defined]


def test_the_schema_knows_every_component() -> None:
    text = json.dumps(Recipe.model_json_schema(by_alias=True))
    for room, name in EVERY:
        assert f'"{name}"' in text, (room, name)


# ---- overrides -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("epochs=3", ("phases", 0, "epochs"), 3),
        ("phases.0.epochs=3", ("phases", 0, "epochs"), 3),
        ("adaptation.lora.rank=4", ("phases", 0, "adaptation"), {"lora": {"rank": 4}}),
        ("data.train.limit=5", ("data", "train"), {"path": "rows.jsonl", "limit": 5}),
        ("checks.forgetting.limit=7", ("checks", 0), {"forgetting": {"limit": 7}}),
        ("optimizer.adamw.lr=1e-3", ("phases", 0, "optimizer"), {"adamw": {"lr": 1e-3}}),
        ("seed=[1, 2]", ("seed",), [1, 2]),
        ("machine.dtype=float32", ("machine", "dtype"), "float32"),
        ("data.validation=", ("data", "validation"), None),
    ],
)
def test_overrides(override: str, path: tuple[Any, ...], value: Any) -> None:
    given = {**LEAST, "checks": ["forgetting"]}
    before = json.dumps(given)
    found: Any = apply_overrides(given, [override])
    for step in path:
        found = found[step]
    assert found == value
    assert json.dumps(given) == before


def test_phases_are_named_in_overrides() -> None:
    given = {**LEAST, "phases": [{"name": "a"}, {"name": "b"}]}
    assert apply_overrides(given, ["phases.b.epochs=2"])["phases"] == [{"name": "a"}, {"name": "b", "epochs": 2}]
    assert apply_overrides(given, ["epochs=2"])["epochs"] == 2  # ambiguous: refused later as an unknown key


def test_a_problem_names_the_override_that_made_it_not_a_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nmodel: m\ndata: {train: a.jsonl}\nphases:\n  - {name: sft, epochs: 2, clip: no}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(path, ["epochs=3", "phases.sft.epochs=two"])
    places = [problem.where for problem in error.value.problems]
    assert "override phases.sft.epochs=two: phases.0.epochs" in places
    assert f"{path}:5: phases.0.clip" in places  # what no override touched stays at its line


# ---- problems --------------------------------------------------------------------------------------------------------


def test_wrong_items_of_a_list_do_not_make_it_too_short() -> None:
    assert set(refused({**LEAST, "phases": [{"epochs": "two"}]})) == {"phases.0.epochs"}


def test_the_forms_of_a_union_are_one_problem() -> None:
    assert set(refused({**LEAST, "data": {"train": 3}})) == {"data.train"}
    assert set(refused({**LEAST, "data": {"train": "a", "test": {"pth": "b"}}})) == {"data.test.path", "data.test.pth"}


def test_a_column_may_be_called_like_a_form() -> None:
    found = refused({**LEAST, "data": {"train": {"path": "a", "columns": {"float": 3}}}})
    assert all(place.startswith("data.train") for place in found)


def test_lines_of_the_file_are_named(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("name: t\nmodel: m\ndata:\n  train: a\nphases:\n  - objective: causal_lm\n    epochs: two\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(file)
    assert error.value.problems[0].where == f"{file}:7: phases.0.epochs"


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"seed": []}, "seed", "empty"),
        ({"seed": [3, 3]}, "seed", "stands 2 times"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": [1, -2]}, "seed.1", "greater than or equal to 0"),
        ({"phases": [{"data": {"train": "b", "test": 0.1}}]}, "phases.0.data.test", "read by nothing"),
        ({"phases": [{"from": "another/run"}]}, "phases.0.from", "nothing reads model"),
        ({"checks": ["perplexity"]}, "checks.0", "data.test=0.1"),
        ({"checks": ["forgetting", "forgetting"]}, "checks.1", "named twice"),
        ({"chat_template": "absent.jinja"}, "chat_template", "absent.jinja"),
        ({"phases": [{"name": "a"}, {"name": "b", "from": "c"}, {"name": "c"}]}, "phases.1.from", "before it"),
        ({"phases": [{"name": "a", "objective": "classify"}, {"name": "b"}]}, "phases.1", "the output layer is gone"),
        ({"phases": [{"name": "a", "adaptation": "bottleneck"}, {"name": "b"}]}, "phases.0.adaptation", "folded"),
        ({"checks": ["forgetting"], "gates": "forgetting.ratio <= 1"}, "gates.0", "perplexity_ratio"),
        ({"phases": [{"per_step": {"tokens": 5, "rows": 5}}]}, "phases.0.per_step", "takes tokens or rows"),
    ],
)
def test_rules(changes: dict[str, Any], place: str, words: str) -> None:
    found = refused({**LEAST, **changes})
    assert place in found
    assert words in found[place]


@pytest.mark.parametrize(
    "changes",
    [
        {"checks": ["forgetting"]},
        {"data": {"train": "a", "validation": "b", "split_by": "customer"}},
        {"data": {"train": "a", "validation": 0.1}, "checks": ["perplexity", "parity"]},
        {"seed": [1, 2], "chat_template": "plain"},
        {
            "phases": [
                {"name": "a"},
                {"name": "b", "adaptation": "bottleneck"},
            ]
        },
        {"phases": [{"name": "a", "adaptation": "bottleneck"}, {"name": "b", "from": "another/run"}]},
        {"checks": ["forgetting"], "gates": ["forgetting.perplexity.high <= base * 1.1"]},
    ],
)
def test_what_is_fine(changes: dict[str, Any]) -> None:
    assert Recipe.of({**LEAST, **changes}).problems() == []


@pytest.mark.parametrize("key", ["every", "rows", "patience"])
def test_watching_without_validation_is_a_problem_where_it_was_asked_for(key: str) -> None:
    def places(watch: dict[str, object], validation: float | None) -> list[str | None]:
        data = {"train": "rows.jsonl", "validation": validation}
        value = {"name": "a", "model": "embedded:nano", "data": data, "phases": [{"watch": watch}]}
        return [problem.where for problem in Recipe.model_validate(value).problems()]

    assert places({key: 3}, None) == [f"phases.0.watch.{key}"]
    assert places({key: 3}, 0.1) == []
    assert places({key: None}, None) == []
    assert places({}, None) == []


def test_data_in_the_place_of_a_recipe_is_told_apart(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="is a data file, not a recipe") as caught:
        load_recipe(rows)
    assert f"data.train={rows}" in str(caught.value)


@pytest.mark.parametrize("key", ["[", "int", "Source", "list[int]", ""])
def test_unknown_keys_that_look_like_types_are_told_as_keys(key: str) -> None:
    value = {"name": "t", "model": "embedded:nano", "data": {"train": "rows.jsonl"}}
    for changed in (
        value | {key: 1},
        value | {"data": {"train": "rows.jsonl", key: 1}},
        value | {"phases": [{"adaptation": {"lora": {key: None}}}]},
    ):
        with pytest.raises(RecipeError, match="unknown key") as caught:
            Recipe.of(changed)
        assert f"unknown key '{key}'" in str(caught.value)
