"""The datasheet tells what was measured, quotes what people said, and says what nobody did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from luthier.core.errors import RecipeError
from luthier.core.recipe import Data
from luthier.core.recipe_file import load_recipe
from luthier.data.prepare import prepare, save
from luthier.report.datasheet import QUESTIONS, write_datasheet

ROWS = [{"text": f"item {number} <b>x</b> {'long ' * number}", "label": f"k{number % 3}", "who": f"p{number}"}
        for number in range(40)]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, ROWS[0]]) + "torn")
    steps = ("clean", {"deduplicate": {"near": False}})
    data = Data(train=str(file), test=0.25, steps=steps, groups=("who",), bad_rows="quarantine")
    prepared = prepare(data, 1)
    prepared.facts.append({"step": "clean", "split": "train", "facts": {"kinds": {"mark_up": 3}, "share": 0.25}})
    run = tmp_path / "run"
    save(prepared, run / "data")
    recipe = {"name": "small", "model": "m", "datasheet": {"motivation": "To test.\nBy us, <b>alone</b>."}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    inputs = {str(file): {"rows": 42, "bytes": 9, "sha256": "ab" * 32}}
    (run / "manifest.json").write_text(json.dumps({"name": "small", "inputs": inputs}))
    return run


def test_what_was_measured_and_what_was_told(folder: Path) -> None:
    path = write_datasheet(folder)
    assert path == folder / "data/datasheet.md"
    text = path.read_text()
    summary = json.loads((folder / "data/summary.json").read_text())
    for told in (
        "# Datasheet: small",
        "> To test.\n> By us, \\<b>alone\\</b>.",
        f"| train | {summary['splits']['train']} | 0 |",
        "A row holds: text (40 rows).",
        "Group who: 40 values of 1 rows.",
        "1 rows could not be read",
        "| rows.jsonl | 42 | 9 | `abababababababab` | labeled: ",
        "| deduplicate | 41 | 1 | 0 | 0 | 0 | 40 |",
        "- kinds:\n  - mark up: 3\n- share: 0.25",
    ):
        assert told in text
    counts = [line for line in text.splitlines() if line.startswith("| k")]
    assert sum(int(cell) for line in counts for cell in line.split("|")[2:-1]) == 40
    # No row is quoted, and no place of this machine.
    assert "item 3" not in text
    assert str(folder.parent) not in text


def test_sections_stand_in_the_published_order_and_gaps_are_named(folder: Path) -> None:
    text = write_datasheet(folder).read_text()  # type: ignore[union-attr]
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "Motivation", "Composition", "Collection", "Preprocessing, cleaning, labeling", "Uses", "Distribution",
        "Maintenance",
    ]  # fmt: skip
    assert text.count("Not told: ") == len(QUESTIONS) - 1


def test_a_parent_of_repetitions_has_none(folder: Path) -> None:
    (folder / "data/summary.json").unlink()
    assert write_datasheet(folder) is None


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(RecipeError, match="motive"):
        load_recipe({"name": "x", "model": "m", "data": {"train": "r"}, "datasheet": {"motive": "?"}})
