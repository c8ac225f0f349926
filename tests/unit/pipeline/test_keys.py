"""A stage's key: which of a model's files it depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.data.inputs import Inputs
from luthier.models.source import source_digest
from luthier.pipeline import keys


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja"])
def test_a_changed_file_of_the_model_is_another_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text("one")
    before = source_digest(str(tmp_path))
    (tmp_path / name).write_text("other")
    assert source_digest(str(tmp_path)) != before


def test_the_card_of_the_model_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = source_digest(str(tmp_path))
    (tmp_path / "README.md").write_text("about the model")
    assert source_digest(str(tmp_path)) == before


def test_a_folder_called_as_a_check_is_none_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parity").mkdir()
    (tmp_path / "parity" / "events.jsonl").write_text("{}")
    (tmp_path / "general.jsonl").write_text("{}")
    inputs = Inputs({})
    found = keys._checks(["parity", {"forgetting": {"on": "general.jsonl"}}], inputs)
    assert found[0] == "parity"
    assert [Path(path).name for path in inputs.digests] == ["general.jsonl"]
