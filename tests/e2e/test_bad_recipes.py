"""Recipes and command lines that are wrong: place and remedy, exit code 2, no traceback, and nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_runs
from bad_recipes import EARLY, LATE, RECIPE, Bad

from luthier.cli.main import main
from luthier.core.recipe_file import dump, load_recipe


@pytest.fixture
def place(tmp_path: Path, llama_folder: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with conversations and links to a tiny language model and a tiny encoder."""
    small_runs.write_jsonl(tmp_path / "chat.jsonl", small_runs.chat_records(12))
    (tmp_path / "llama").symlink_to(llama_folder)
    (tmp_path / "bert").symlink_to(bert_folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says on its way out with exit code 2; every problem has an expectation or a remedy."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    shown = capsys.readouterr()
    assert end.value.code == 2, shown.err
    assert "Traceback" not in shown.err + shown.out
    problems = shown.err.split("error: ")[1:]
    assert problems, shown.err
    assert all("expected:" in problem or "remedy:" in problem for problem in problems), shown.err
    return shown.err


def told(case: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    content = case.recipe if isinstance(case.recipe, bytes) else case.recipe.encode()
    Path("tales.yaml").write_bytes(content)
    said = answer(["run", "tales.yaml", *case.overrides], capsys)
    for words in case.says:
        assert words in said


def finished(run: Path) -> set[str]:
    """The stages that the manifest calls finished; all that they wrote is there."""
    manifest = run / "manifest.json"
    stages = json.loads(manifest.read_text(encoding="utf-8")).get("stages", {}) if manifest.exists() else {}
    assert all((run / output).is_file() for done in stages.values() for output in done["outputs"])
    return set(stages)


def test_the_listing_is_long_and_names_each_kind_once() -> None:
    names = [case.name for case in (*EARLY, *LATE)]
    assert len(names) == len(set(names)) > 100


@pytest.mark.parametrize("case", EARLY, ids=lambda case: case.name)
def test_a_wrong_recipe_is_told_before_anything_is_written(
    case: Bad, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(case, capsys)
    assert sorted(path.name for path in place.iterdir()) == ["bert", "chat.jsonl", "llama", "tales.yaml"]


@pytest.mark.parametrize("case", LATE, ids=lambda case: case.name)
def test_what_only_the_model_tells_leaves_what_was_done_whole(
    case: Bad, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(case, capsys)
    run = place / "runs" / "tales"
    assert finished(run) <= {"prepare"}
    assert not (run / "model").exists()
    assert not [*run.rglob("*.part"), *run.rglob("*.writing")]


def test_the_corrected_command_goes_on_where_the_wrong_one_stopped(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(LATE[0], capsys)
    main(["train", "tales.yaml", "adaptation={lora: {targets: [q_proj]}}", "--plain"])
    assert finished(place / "runs" / "tales") == {"prepare", "train train"}
    assert "preparing the data: kept from before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("folder", ("'folder' is a folder without a recipe.yaml", "did you mean 'folder/other.yaml'?")),
        ("loop.yaml", ("there is no recipe 'loop.yaml'",)),
        ("r" * 5000, ("the recipe cannot be looked at",)),
        ("chat.jsonl", ("is a data file, not a recipe", "data.train=chat.jsonl")),
    ],
)
def test_what_is_no_recipe_is_told(
    source: str, says: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "folder").mkdir()
    (place / "folder" / "other.yaml").write_text(RECIPE, encoding="utf-8")
    (place / "loop.yaml").symlink_to("loop.yaml")
    said = answer(["run", source], capsys)
    for words in says:
        assert words in said


@pytest.mark.parametrize(
    "text", ["1e5", "0o17", "010", "2024-01-01", "1:30", "yes", "null", ".inf", "a: b", "'", "é\t"]
)
def test_text_that_looks_like_something_else_reads_back_as_text(text: str, place: Path) -> None:
    value = {"name": "tales", "model": "llama", "data": {"train": "chat.jsonl"}, "about": text}
    Path("tales.yaml").write_text(dump(load_recipe(value)), encoding="utf-8")
    assert load_recipe("tales.yaml").about == text


def test_numbers_are_those_of_yaml_1_2(place: Path) -> None:
    text = RECIPE + "seed: 010\nphases: [{steps: 0x10, clip: 2e-1, optimizer: {adamw: {lr: 1_0.5e-3}}}]\n"
    Path("tales.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe("tales.yaml")
    phase = recipe.phases[0]
    assert (recipe.seed, phase.steps, phase.clip, phase.optimizer.lr) == (10, 16, 0.2, 0.0105)


def test_a_byte_order_mark_is_no_mistake(place: Path) -> None:
    Path("tales.yaml").write_bytes(b"\xef\xbb\xbf" + RECIPE.encode())
    assert load_recipe("tales.yaml").name == "tales"
