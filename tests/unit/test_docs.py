"""The documentation held against the code: links, commands, recipes, Python blocks, generated pages."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.cli.main import app
from luthier.core.component import ROOMS, find, names
from luthier.core.contracts import StepContext
from luthier.core.embedded import embedded_recipes
from luthier.core.errors import RecipeError
from luthier.core.example import Example, Origin
from luthier.core.plain_yaml import parse
from luthier.core.recipe import Phase, Recipe
from luthier.core.recipe_file import load_recipe
from luthier.data.ledger import Ledger
from tools import write_reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback} | {
    "data"
}
DATA = {"train": "rows.jsonl", "validation": 0.1, "test": 0.1}
BASE = {"name": "base", "model": "embedded:nano", "data": DATA}
ENCODER = "embedded:minilm"


def blocks(*kinds: str) -> Iterator[Any]:
    for page, text in TEXTS.items():
        for number, found in enumerate(FENCE.finditer(text), 1):
            if found[1] in kinds:
                yield pytest.param(found[2], id=f"{page.name}-{number}")


def commands() -> Iterator[Any]:
    """Every line of a console block that calls luthier, and every `luthier ...` in running text or a table."""
    for page, text in TEXTS.items():
        lines = [line for found in FENCE.finditer(text) if found[1] == "console" for line in found[2].splitlines()]
        called = [line.removeprefix("$ ").partition(" #")[0].strip() for line in lines]
        prose = FENCE.sub("", text)
        called += [re.sub(r"\s+", " ", found) for found in re.findall(r"`(luthier [^`]+)`", prose)]
        for line in dict.fromkeys(called):
            if line.startswith("luthier "):
                yield pytest.param(shlex.split(line)[1:], id=f"{page.name}: {line}"[:80])


# ---- links -----------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", TEXTS[page])):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {(ROOT / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", TEXTS[ROOT / "README.md"])}
    for page in (ROOT / "docs").glob("*.md"):
        near = {(page.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", TEXTS[page])}
        assert page in linked or near & linked, f"nothing leads to {page.name}"


def test_images_have_a_text() -> None:
    for text in TEXTS.values():
        assert not re.search(r"!\[\]\(", text)


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [*commands()])
def test_command_lines_parse(arguments: list[str]) -> None:
    import typer

    group = typer.main.get_command(app)
    if arguments == ["--help"]:
        return
    name, *rest = arguments
    if name not in COMMANDS:
        pytest.fail(f"luthier has no command '{name}'")
    command = group.get_command(None, name)  # type: ignore[attr-defined, arg-type]
    if name == "data":
        if not rest:
            return
        step = rest[0]
        _, command, rest = command.resolve_command(None, rest)
        if command.name == "step" and re.fullmatch(r"[a-z_]+", step):
            assert step in names("steps"), f"no step '{step}'"
    required = [part.name for part in command.params if part.required and part.param_type_name == "argument"]
    if rest or not required:
        parsed = command.make_context(name, list(rest)).params
    else:  # the command is only named
        return
    if name in ("run", "plan", "train") and re.fullmatch(r"[a-z][\w-]*", parsed["recipe"]):
        assert parsed["recipe"] in embedded_recipes(), f"no recipe '{parsed['recipe']}' ships"
        load_recipe(parsed["recipe"], parsed["overrides"] or ())
    if name == "list" and parsed["room"]:
        assert parsed["room"] in (*ROOMS, "recipes")


def test_every_command_is_documented() -> None:
    shown = " ".join(TEXTS.values())
    assert {name for name in COMMANDS if f"luthier {name}" not in shown} == set()


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in TEXTS.values():
        for target in re.findall(r"^\$ make (\S+)|`make (\w+)`", text, re.MULTILINE):
            assert f"\n{target[0] or target[1]}:" in makefile


def test_every_recipe_that_ships_is_in_the_readme() -> None:
    assert {name for name in embedded_recipes() if f"`{name}`" not in TEXTS[ROOT / "README.md"]} == set()


# ---- recipes ---------------------------------------------------------------------------------------------------------


def parsed(text: str) -> dict[str, Any]:
    """YAML as recipes are read: 2e-4 is a number, and 'on' is a key."""
    value: dict[str, Any] = parse(text)[0]
    return value


@pytest.mark.parametrize("text", [*blocks("yaml")])
def test_yaml_blocks_validate(text: str) -> None:
    value = parsed(text)
    if {"model", "data"} <= value.keys():
        load_recipe(value)
    elif value.keys() <= Recipe.model_fields.keys() | {"format"}:
        # A part of a recipe; a format belongs to a source.
        given = {"data": {"train": {"path": "rows.jsonl", **value}}} if "format" in value else value
        assert any(loads(BASE | fitting | given) for fitting in fittings()) or load_recipe(BASE | given)
    else:
        known = {info.alias or name for name, info in Phase.model_fields.items()}
        assert value.keys() <= known | {"steps"}, sorted(value)
        Recipe.model_validate(_with_phase(value))


def fittings() -> Iterator[dict[str, Any]]:
    """What a part of a recipe may need beside it: nothing, or for a check of another task a phase that learns it."""
    yield {}
    for name in names("objectives"):
        for model in ({}, {"model": ENCODER}):
            yield {**model, "phases": [{"objective": {name: dict(find("objectives", name).example)}}]}


def loads(value: dict[str, Any]) -> bool:
    try:
        load_recipe(value)
    except RecipeError:
        return False
    return True


def _with_phase(value: dict[str, Any]) -> dict[str, Any]:
    """The base recipe with a phase's keys; a list of steps belongs to its data."""
    if isinstance(value.get("steps"), list):
        return BASE | {"data": {**DATA, "steps": value["steps"]}}
    return BASE | {"phases": [value]}


@pytest.mark.parametrize("file", sorted((ROOT / "examples/recipes").glob("*.yaml")), ids=lambda file: file.stem)
def test_example_recipes_validate(file: Path) -> None:
    assert load_recipe(file).name == file.stem


def test_the_readme_shows_the_example_recipe() -> None:
    shown = next(found[2] for found in FENCE.finditer(TEXTS[ROOT / "README.md"]) if found[1] == "yaml")
    given = load_recipe(ROOT / "examples/recipes/repairs.yaml").plain()
    assert load_recipe(parsed(shown)).plain() == {key: given[key] for key in given if key != "about"}


# ---- Python ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", [*blocks("python"), *(pytest.param(file.read_text(encoding="utf-8"), id=file.name) for file in EXAMPLES)]
)
def test_python_compiles_and_its_names_exist(source: str) -> None:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level and node.module.startswith("luthier"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "luthier":
            assert hasattr(importlib.import_module("luthier"), node.attr), f"luthier.{node.attr}"


def test_the_page_on_components_tells_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that docs/add-a-component.md writes is a component, and the page's own test of it passes."""
    source, test = [f[2] for f in FENCE.finditer(TEXTS[ROOT / "docs/add-a-component.md"]) if f[1] == "python"]
    module = types.ModuleType("luthier.data.steps.minimum_words")
    module.__package__ = "luthier.data.steps"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, "minimum_words.py", "exec"), module.__dict__)
    step = module.MinimumWords(**module.MinimumWords.example)
    assert step.component_name() == "minimum_words"
    rows = [Example(f"r:{n}", {"text": "word " * n}, Origin("r.txt", n)) for n in (4, 5)]
    ledger = Ledger()
    kept = list(step.run(rows, StepContext("train", 1, ledger.page("train", "minimum_words"))))
    assert ([row.id for row in kept], [entry.id for entry in ledger.entries]) == (["r:5"], ["r:4"])
    shown: dict[str, object] = {}
    exec(compile(test, "test_minimum_words.py", "exec"), shown)
    # The page's test builds the step by its name, which needs the file in its folder.
    shown["build"] = lambda room, name: module.MinimumWords()
    shown["test_short_rows_are_dropped_with_their_length"]()  # type: ignore[operator]


def test_the_page_on_components_names_every_room() -> None:
    text = TEXTS[ROOT / "docs/add-a-component.md"]
    for room, package in ROOMS.items():
        assert f"| {room} | `{package.removeprefix('luthier.').replace('.', '/')}` |" in text


# ---- generated pages -------------------------------------------------------------------------------------------------


def test_generated_pages_are_fresh() -> None:
    assert write_reference.stale() == [], "run `make docs`"


def test_generated_pages_hold_every_component_and_key() -> None:
    written = write_reference.pages()
    components = written["docs/components.md"]
    assert [name for room in ROOMS for name in names(room) if f"\n### {name}\n" not in components] == []
    reference = written["docs/recipe-reference.md"]
    for model in (Recipe, Phase):
        assert [f for f, i in model.model_fields.items() if f"| `{i.alias or f}` |" not in reference] == []


def test_a_page_that_was_changed_by_hand_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.setattr(write_reference, "ROOT", tmp_path)
    assert write_reference.main([]) == 0
    assert write_reference.main(["--check"]) == 0
    page = tmp_path / "docs/components.md"
    page.write_text(page.read_text(encoding="utf-8") + "a line of somebody's own\n", encoding="utf-8")
    assert write_reference.main(["--check"]) == 1
