"""Folders in the hub's manner, without a network: saved by `datasets`, or files named for their splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.core.errors import DataError, MissingExtra
from luthier.core.recipe import Data, Source
from luthier.data.inputs import Inputs
from luthier.data.places import path_problems
from luthier.data.read import Read, read

datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install 'luthier[hub]'")

TRAIN = [{"text": "how long?", "label": 1}, {"text": "so loud", "label": 0}, {"text": "till when?", "label": 1}]
TEST = [{"text": "since when?", "label": 1}]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def dataset(rows: list[dict[str, object]]) -> datasets.Dataset:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["tone", "time"])}
    )
    return datasets.Dataset.from_list(rows, features=features)


def one(path: Path | str) -> Read:
    return read([Source(path=str(path))])


def test_a_saved_data_set_is_read_with_its_classes(tmp_path: Path) -> None:
    dataset(TRAIN).select([2, 0]).save_to_disk(tmp_path / "saved")
    result = one(tmp_path / "saved")
    assert [(e.text(), e.target) for e in result.examples] == [("till when?", "time"), ("how long?", "time")]
    assert [e.id for e in result.examples] == ["saved:1", "saved:2"]


def test_of_saved_splits_one_must_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    datasets.DatasetDict({"train": dataset(TRAIN), "test": dataset(TEST)}).save_to_disk(folder)
    assert [e.id for e in one(f"{folder}#train").examples] == ["saved#train:1", "saved#train:2", "saved#train:3"]
    assert [e.text() for e in one(f"{folder}#test").examples] == ["since when?"]
    assert [e.text() for e in one(folder / "test").examples] == ["since when?"]
    (problem,) = path_problems(str(folder))
    assert problem.found == "the folder holds several splits"
    assert problem.remedy == f"name one: {folder}#train"
    with pytest.raises(DataError, match=r"has no split 'tset'[\s\S]*did you mean '.*#test'"):
        one(f"{folder}#tset")
    files = Inputs().of_data(Data(train=f"{folder}#train"))
    assert any(name.endswith(".arrow") for name in files)


def test_files_named_for_their_splits_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    (folder / "data").mkdir(parents=True)
    dataset(TRAIN).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    dataset(TEST).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    assert [e.target for e in one(f"{folder}#test").examples] == ["time"]
    assert len(one(f"{folder}#train").examples) == 3
    with pytest.raises(DataError, match=r"several splits: data/test-0.*[\s\S]*name one: .*#train"):
        one(folder)
    with pytest.raises(DataError, match=r"the folder gave no rows: .*Unknown split"):
        one(f"{folder}#validation")


def test_a_folder_of_one_splits_files_is_read_whole(tmp_path: Path) -> None:
    for name in ("train-1.txt", "train-2.txt", "testimony.txt"):
        (tmp_path / name).write_text("a tale")
    assert len(one(tmp_path).examples) == 3
    (tmp_path / "dev.txt").write_text("a tale")
    with pytest.raises(DataError, match=r"several splits: dev\.txt, train-1\.txt"):
        one(tmp_path)


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    dataset(TRAIN).save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:50])
    with pytest.raises(DataError, match="the folder gave no rows"):
        one(tmp_path / "saved")


def test_without_the_package_a_saved_folder_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(TRAIN).save_to_disk(tmp_path / "saved")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"luthier\[hub\]"):
        one(tmp_path / "saved")


def test_a_part_that_the_hub_does_not_have_is_no_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: object, **named: object) -> None:
        raise ValueError("Unknown split \"tset\". Should be one of ['train', 'test'].")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"not this part of it: .*Unknown split[\s\S]*'train', 'test'"):
        one("owner/intents#tset")
