"""Rows of a database: what a query gives becomes rows, nothing is written, and what is wrong is told beforehand."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import small_runs
from pydantic import ValidationError

from luthier import prepare
from luthier.cli.main import main
from luthier.core.database import is_address
from luthier.core.errors import DataError, LuthierError
from luthier.core.recipe import Data, Recipe, Source
from luthier.data.inputs import Inputs
from luthier.data.places import path_problems
from luthier.data.read import Read, read
from luthier.pipeline import run

QUERY = "SELECT id, text, label FROM notes ORDER BY id"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect("shop.db")
    connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, label TEXT, price NUMERIC, at DATE)")
    rows = [(3, "late again", "bad", 1.5, "2026-01-02"), (1, "größer: gut", "good", 2, None), (2, None, "bad", 0, None)]
    connection.executemany("INSERT INTO notes VALUES (?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return tmp_path / "shop.db"


def one(path: str = "sqlite:///shop.db", query: str = QUERY, **more: Any) -> Read:
    return read([Source(path=path, query=query, **more)], bad_rows="quarantine")


def test_rows_come_in_the_order_of_the_query(shop: Path) -> None:
    found = one()
    assert [(e.id, e.parts["text"], e.target, e.origin.row) for e in found.examples] == [
        ("1", "größer: gut", "good", 1),
        ("3", "late again", "bad", 3),
    ]
    assert [(bad.file, bad.row, bad.reason) for bad in found.bad] == [("sqlite:///shop.db", 2, "missing text")]
    assert (found.files[0].rows, found.formats[0].format) == (3, "labeled")
    assert found == one()
    assert found.files[0].sha256 != one(query=QUERY.replace("BY id", "BY id DESC")).files[0].sha256


def test_ids_are_of_the_database_and_the_query(shop: Path) -> None:
    plain, other = (
        "SELECT text FROM notes WHERE text > '' ORDER BY id",
        "SELECT text FROM notes WHERE id > 2 ORDER BY id",
    )
    first, second = one(query=plain).examples[0].id, one(query=other).examples[0].id
    assert first.startswith("shop-")
    assert first.endswith(":1")
    assert first != second
    assert len(one(limit=1).examples) == 1


def test_colons_and_signs_of_a_query_are_no_parameters(shop: Path) -> None:
    query = "SELECT text || ' :x %s ' || '10:30' AS text FROM notes WHERE id = 3 -- :y; ?\nORDER BY id"
    assert one(query=query).examples[0].parts == {"text": "late again :x %s 10:30"}


def test_nothing_can_be_written(shop: Path) -> None:
    before = shop.read_bytes()
    with pytest.raises(DataError, match="attempt to write a readonly database"):
        one(query="WITH a AS (SELECT 1) INSERT INTO notes SELECT 9, 'a', 'b', 0, 0 ORDER BY 1")
    assert shop.read_bytes() == before
    with pytest.raises(DataError, match=r"there is no file 'shpo\.db'") as caught:
        one("sqlite:///shpo.db")
    assert "did you mean 'shop.db'?" in str(caught.value)
    assert not Path("shpo.db").exists()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT text FROM notes", "asks for no order"),
        ("SELECT text, row_number() OVER (ORDER BY id) FROM notes", "asks for no order"),
        ("SELECT 'order by' AS text FROM notes -- ORDER BY id", "asks for no order"),
        ("DELETE FROM notes", "not one SELECT"),
        ("SELECT text FROM notes ORDER BY id; DROP TABLE notes", "not one SELECT"),
    ],
)
def test_a_query_must_be_one_select_in_order(query: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Source(path="sqlite:///shop.db", query=query)


def test_a_file_takes_no_query_and_a_database_needs_one() -> None:
    with pytest.raises(ValidationError, match="path is no database's address"):
        Source(path="rows.jsonl", query=QUERY)
    with pytest.raises(ValidationError, match="there is no query"):
        Source(path="postgresql+psycopg://host/shop")
    assert [is_address(path) for path in ("env:SHOP", "https://a/b.csv", "embedded:demo", "C:/a", "hf://a/b")] == [
        True,
        *(4 * [False]),
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT nowhere FROM notes ORDER BY id", "no such column: nowhere"),
        ("SELECT text, label AS text FROM notes ORDER BY id", "columns come twice: text"),
        ("SELECT text FROM notes WHERE id > 9 ORDER BY id", "there is no row"),
    ],
)
def test_what_the_database_refuses_is_told(query: str, said: str, shop: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        one(query=query)
    assert all(problem.remedy for problem in caught.value.problems)


def test_values_are_plain(shop: Path) -> None:
    connection = sqlite3.connect("shop.db")
    connection.execute("CREATE TABLE odd (id INTEGER, text BLOB)")
    connection.executemany("INSERT INTO odd VALUES (?, ?)", [(1, "weiß".encode()), (2, b"\xff")])
    connection.commit()
    connection.close()
    found = one(query="SELECT * FROM odd ORDER BY id")
    assert found.examples[0].parts == {"text": "weiß"}
    assert [bad.reason for bad in found.bad] == ["not valid UTF-8: byte 0xFF at place 1 of a value"]


def test_an_address_can_stand_in_the_environment(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PLACE", "sqlite:///shop.db")
    found = one("env:SHOP_PLACE")
    assert (found.examples[0].id, found.examples[0].origin.file) == ("1", "env:SHOP_PLACE")
    assert not path_problems("env:SHOP_PLACE")
    monkeypatch.delenv("SHOP_PLACE")
    assert "SHOP_PLACE is not set" in path_problems("env:SHOP_PLACE")[0].found


def test_a_password_is_neither_kept_nor_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "postgresql+nodriver://reader:correcthorse7@host/shop"
    recipe = {"name": "a", "model": "embedded:nano", "data": {"train": {"path": address, "query": QUERY}}}
    with pytest.raises(LuthierError, match="a credential stands in the recipe") as caught:
        Recipe.of(recipe)
    assert "env:NAME" in str(caught.value)
    monkeypatch.setenv("SHOP_PLACE", address)
    for path in (address, "env:SHOP_PLACE"):
        with pytest.raises(LuthierError) as caught:
            one(path)
        assert "correcthorse7" not in str(caught.value)
        assert caught.value.problems[0].remedy


def test_a_changed_database_is_noticed(shop: Path) -> None:
    data = Data.model_validate({"train": {"path": "sqlite:///shop.db", "query": QUERY}})
    before = Inputs().of_data(data)
    connection = sqlite3.connect("shop.db")
    connection.execute("UPDATE notes SET label = 'good'")
    connection.commit()
    connection.close()
    assert Inputs().of_data(data) != before


def test_from_python_rows_go_through_steps(shop: Path) -> None:
    found = prepare({"path": "sqlite:///shop.db", "query": QUERY}, ["clean"], bad_rows="quarantine", out="notes.jsonl")
    assert len(found.splits["train"]) == 2
    assert [example.id for example in read([Source(path="notes.jsonl")]).examples] == ["1", "3"]


def test_from_the_command_line_rows_go_through_a_step(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "SELECT id, text, label FROM notes WHERE text > '' ORDER BY id"
    main(["data", "clean", "sqlite:///shop.db", "--query", query])
    assert [example.id for example in read([Source(path="shop.clean.jsonl")]).examples] == ["1", "3"]
    with pytest.raises(SystemExit) as end:
        main(["data", "clean", "sqlite:///shop.db"])
    assert end.value.code == 2
    assert "there is no query" in capsys.readouterr().err


def test_a_run_reads_a_database_and_notices_a_change(llama_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect("talks.db")
    connection.execute("CREATE TABLE talks (id INTEGER, instruction TEXT, output TEXT)")
    connection.executemany("INSERT INTO talks VALUES (?, ?, ?)", [(row, f"say {row}", f"{row}.") for row in range(20)])
    connection.commit()
    recipe = small_runs.lm_recipe(llama_folder, Path("rows.jsonl"))
    recipe["data"]["train"] = {"path": "sqlite:///talks.db", "query": "SELECT * FROM talks ORDER BY id"}
    counts = []
    for _ in range(2):
        run(recipe, until="prepare")
        summary = json.loads(Path("runs/small/data/summary.json").read_text())
        counts.append((summary["read"], summary["formats"]["sqlite:///talks.db"]["format"]))
        connection.execute("DELETE FROM talks WHERE id = 3")
        connection.commit()
    connection.close()
    assert counts == [(20, "alpaca"), (19, "alpaca")]
