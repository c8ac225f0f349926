"""Files that are read in pieces by several processes give what reading them whole gives, row for row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_runs import chat_records, lm_recipe, write_jsonl

import luthier
from luthier.cli.main import main
from luthier.core.contracts import Format
from luthier.core.errors import DataError
from luthier.core.recipe import Data
from luthier.data import cut, large
from luthier.data.large import shelf_for, size_of
from luthier.data.prepare import Prepared, prepare
from luthier.data.shelf import Disk, Memory, Shelf
from luthier.data.store import Stored

RAGGED = b'{"text": "torn, "label": "x"}\n\n   \n{"text": "caf\xe9", "label": "y"}\n[1, 2]\n{"label": "no text"}\n'


def lines(count: int, first: int = 0) -> bytes:
    rows = ({"text": f"row {number} of the file", "label": str(number % 3)} for number in range(first, first + count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "PIECE", 1500)


def same(data: Data, folder: Path, *, shard: int = 20) -> Prepared:
    """What memory and disk both give."""
    held = prepare(data, 3)
    stored = prepare(data, 3, Disk(folder / "work", processes=2, shard=shard))
    assert all(isinstance(rows, Stored) for rows in stored.splits.values())
    assert {name: list(rows) for name, rows in stored.splits.items()} == held.splits
    assert list(stored.splits) == list(held.splits)
    assert list(stored.ledger.entries) == list(held.ledger.entries)
    assert stored.summary == held.summary
    return held


def test_lines_with_damage_blank_lines_and_shares(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + lines(60) + RAGGED + lines(50, 60) + b'{"text": "nul \0"}\n' + lines(1, 200)[:-1]
    )
    other = tmp_path / "validation.jsonl"
    other.write_bytes(lines(80, 500) + RAGGED)
    data = Data(train=str(path), validation=str(other), test=0.3, steps=("clean",), bad_rows="quarantine")
    found = same(data, tmp_path)
    assert len(list((tmp_path / "work").glob("read-train-00000-*.json"))) > 3
    assert found.summary["unread"] == 9
    assert {entry.row for entry in found.ledger.entries if entry.file == str(path)} == {61, 64, 65, 66, 117}


def test_rows_that_cannot_be_read_stop_it_in_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(60) + RAGGED + lines(60, 60) + RAGGED)
    told = []
    for shelf in (None, Disk(tmp_path / "work", processes=1)):
        with pytest.raises(DataError) as refused:
            prepare(Data(train=str(path)), 3, shelf)
        told.append(str(refused.value))
    assert told[0] == told[1]
    assert "8 rows cannot be read" in told[0]


def test_an_id_that_comes_twice_in_different_pieces(tmp_path: Path) -> None:
    rows = [{"id": f"own {number % 90}", "text": f"row {number}"} for number in range(120)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = same(Data(train=[str(path)], test=0.2, bad_rows="quarantine"), tmp_path)
    assert sum("double id" in entry.reason for entry in found.ledger.entries) == 30
    assert sum(len(rows) for rows in found.splits.values()) == 90


def test_packed_lines_parquet_a_table_and_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines(90), mtime=0))
    values = [{"text": f"parquet {number}", "label": str(number % 2)} for number in range(100)]
    pq.write_table(pa.Table.from_pylist(values), folder / "b.parquet", row_group_size=30)
    (folder / "c.csv").write_text("text,label\n" + "".join(f'"cell, {number}",x\n' for number in range(40)))
    (folder / "d.jsonl").write_bytes(lines(3, 900))
    found = same(Data(train=str(folder), validation=0.1), tmp_path)
    assert [fact.rows for fact in found.files] == [90, 100, 40, 3]
    assert len(list((tmp_path / "work").glob("read-train-00000-*.json"))) > 2


def test_a_table_is_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [f'"cell, {number}\n and ""more""",label {number % 3}\r\n' for number in range(150)]
    damaged = ["one cell\n", '"open quote, x\n', "text;label\n"]
    path.write_bytes(
        b"\xef\xbb\xbf\ntext,label\n" + "".join([*rows[:80], *damaged, *rows[80:]]).encode() + b"caf\xe9,x\n"
    )
    found = same(Data(train=str(path), test=0.2, bad_rows="quarantine"), tmp_path)
    assert list((tmp_path / "work").glob("read-train-00000-00000.json"))
    assert found.summary["unread"] >= 3
    assert found.summary["read"] > 75


@pytest.mark.parametrize("content", [b"a,b\n" * 600, b"a,a\nx,y\n" * 400, b"1.5,2\n" * 600, b"caf\xe9,x\nu,v\n" * 400])
def test_a_table_is_refused_in_the_same_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    told = []
    for shelf in (None, Disk(tmp_path / "work", processes=1)):
        with pytest.raises(DataError) as refused:
            prepare(Data(train=str(path)), 3, shelf)
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_parquet_groups_are_pieces_with_the_rows_own_numbers(tmp_path: Path) -> None:
    values = [{"text": f"parquet row number {number} " + "x" * 40, "label": "a"} for number in range(200)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(values), path, row_group_size=20, use_dictionary=False, compression="none")
    found = same(Data(train=str(path)), tmp_path)
    assert len(list((tmp_path / "work").glob("read-train-00000-*.json"))) > 3
    assert [row.origin.row for row in found.splits["train"]] == list(range(1, 201))


@pytest.mark.parametrize("limit", [5, 47, 1000])
def test_a_limit_over_several_files(tmp_path: Path, limit: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(20) + RAGGED + lines(20, 100))
    (folder / "b.jsonl").write_bytes(lines(60, 300))
    (folder / "c.jsonl").write_bytes(lines(2, 800))
    same(Data(train={"path": str(folder), "limit": limit}, bad_rows="quarantine"), tmp_path)


def test_groups_columns_weights_and_a_file_named_twice(tmp_path: Path) -> None:
    rows = [{"said": f"row {number}", "who": number % 7 or None, "label": "x"} for number in range(100)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": str(path), "columns": {"text": "said"}, "weight": 0.5}
    data = Data(train=(source, {**source, "repeat": 2.0}), split_by="who", test=0.3, bad_rows="quarantine")
    found = same(data, tmp_path)
    assert any(entry.reason == "missing who" for entry in found.ledger.entries)
    assert {row.origin.file for row in found.splits["train"]} == {str(path)}


@pytest.mark.parametrize(
    ("given", "content"),
    [
        ({"columns": {"text": "sayd"}}, lines(100).replace(b'"text"', b'"said"')),
        ({"columns": {"text": "said"}}, lines(100).replace(b'"text"', b'"what"').replace(b'"label"', b'"so"')),
        ({}, lines(100).replace(b'"text"', b'"what"').replace(b'"label"', b'"so"')),
        ({}, b"[1]\n" * 600),
        ({}, b"   \n" * 600),
        ({"groups": ["who"]}, lines(100)),
        ({"test": 0.0001}, lines(100)),
    ],
)
def test_what_is_refused_is_refused_in_the_same_words(tmp_path: Path, given: dict[str, Any], content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    told = []
    for shelf in (None, Disk(tmp_path / "work", processes=1)):
        with pytest.raises(DataError) as refused:
            prepare(Data(train=str(path), **given), 3, shelf)
        told.append(str(refused.value))
    assert told[0] == told[1]


class Shouted(Format):
    """A format that is no file of the room."""

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        return "text" in record

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        if record["text"].startswith("row 9 "):
            raise ValueError("not loud enough")
        return {"parts": {"text": record["text"].upper()}}


def test_a_format_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(100))
    found = same(Data(train={"path": str(path), "format": Shouted()}, bad_rows="quarantine"), tmp_path)
    assert found.splits["train"][0].text() == "ROW 0 OF THE FILE"
    assert found.summary["unread"] == 1


def test_a_piece_that_was_read_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(120))
    data, work = Data(train=str(path)), tmp_path / "work"
    first = list(prepare(data, 3, Disk(work, processes=1)).splits["train"])
    done = sorted(work.glob("read-train-00000-*.json"))
    before = {file: file.stat().st_mtime_ns for file in done}
    done[1].unlink()
    assert list(prepare(data, 3, Disk(work, processes=1)).splits["train"]) == first
    changed = [file for file in done if file.stat().st_mtime_ns != before[file]]
    assert changed == [done[1]]


def test_the_size_of_data(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x" * 100)
    (tmp_path / "b.jsonl.gz").write_bytes(b"x" * 100)
    assert size_of(Data(train=str(tmp_path / "a.jsonl"))) == 100
    assert size_of(Data(train=str(tmp_path))) == 600
    assert size_of(Data(train={"path": str(tmp_path), "limit": 3}, validation=str(tmp_path / "a.jsonl"))) == 100
    assert size_of(Data(train="embedded:demo")) == 0


# ---- where it is used ------------------------------------------------------------------------------------------------


def broken_off(data: Data, shelf: Shelf) -> None:
    prepare(data, 3, shelf)
    raise KeyboardInterrupt


def test_a_shelf_goes_when_its_work_is_done_or_refused_and_stays_when_it_is_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(100))
    data, folder = Data(train=str(path)), tmp_path / "unfinished" / "this"
    with shelf_for(data, folder) as shelf:
        assert isinstance(shelf, Memory)
    monkeypatch.setattr(large, "LARGE", 1000)
    (tmp_path / "unfinished" / "earlier").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), shelf_for(data, folder) as shelf:
        broken_off(data, shelf)
    assert list(folder.parent.iterdir()) == [folder]
    assert list(folder.iterdir())
    with pytest.raises(DataError), shelf_for(data, folder):
        raise DataError("rows cannot be read")
    assert not folder.parent.exists()
    with shelf_for(data, folder) as shelf:
        prepare(data, 3, shelf)
    assert not folder.parent.exists()


def test_the_command_and_the_python_door_take_files_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(60) + RAGGED + lines(60))
    monkeypatch.chdir(tmp_path)
    held = luthier.prepare("rows.jsonl", ["deduplicate"], out="held.parquet", bad_rows="quarantine")
    found = luthier.prepare("rows.jsonl", ["deduplicate"], out="found.parquet", work="work", bad_rows="quarantine")
    assert found.summary == held.summary
    assert (tmp_path / "held.parquet").read_bytes() == (tmp_path / "found.parquet").read_bytes()
    assert (tmp_path / "held.ledger.jsonl").read_bytes() == (tmp_path / "found.ledger.jsonl").read_bytes()
    monkeypatch.setattr("luthier.pipeline.data.LARGE", 1000)
    main(["data", "deduplicate", "rows.jsonl", "--out", "told.parquet"])
    assert "60  dropped: exact duplicate" in capsys.readouterr().out
    assert (tmp_path / "held.parquet").read_bytes() == (tmp_path / "told.parquet").read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_run_prepares_large_data_as_it_does_small(
    tmp_path: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records())
    recipe = lm_recipe(llama_folder, data, epochs=None, steps=1)
    made = []
    for number, most in enumerate((2**25, 1000)):
        monkeypatch.setattr(large, "LARGE", most)
        out = tmp_path / f"run-{number}"
        luthier.run(recipe, out=out)
        made.append({file.name: file.read_bytes() for file in sorted((out / "data").iterdir()) if file.is_file()})
        assert not (out / "data" / "unfinished").exists()
    assert made[0] == made[1]
