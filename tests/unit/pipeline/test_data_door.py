"""One step on a file of rows, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import luthier
from luthier.cli.main import main
from luthier.core.errors import LuthierError
from luthier.data.store import read_examples

ROWS = [
    {"text": "the old <b>violin</b>", "label": "string"},
    {"text": "the old <b>violin</b>", "label": "string"},
    {"text": "a brass horn", "label": "brass"},
]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Path("rows.jsonl")


def records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_step_from_the_command_line(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "deduplicate", str(rows), "near=false"])
    assert [record["text"] for record in records(Path("rows.deduplicate.jsonl"))] == [ROWS[0]["text"], ROWS[2]["text"]]
    (entry,) = records(Path("rows.deduplicate.ledger.jsonl"))
    assert (entry["id"], entry["reason"], entry["of"]) == ("rows:2", "exact duplicate", "rows:1")
    told = capsys.readouterr().out
    for part in ("labeled", "3  rows", "1  dropped: exact duplicate", "2  kept", "rows.deduplicate.jsonl"):
        assert part in told


def test_rows_that_cannot_be_read_stand_in_the_ledger(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with rows.open("a") as file:
        file.write('{"text": "torn')
    main(["data", "clean", str(rows)])
    told = capsys.readouterr().out
    assert "4  rows" in told
    assert "1  unread: not valid JSON" in told
    ledger = records(Path("rows.clean.ledger.jsonl"))
    assert [(entry["row"], entry["before"]) for entry in ledger if entry["action"] == "unread"] == [
        (4, '{"text": "torn')
    ]


def test_what_a_step_measures_is_told(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "lexicon", str(rows), "terms=[violin, lute]"])
    told = capsys.readouterr().out
    for part in ("terms that occur: 1", "absent: lute", "rows with a term: 0.6667"):
        assert part in told


def test_columns_of_other_names(rows: Path) -> None:
    rows.write_text(json.dumps({"message": "hello", "kind": "greeting"}) + "\n")
    given = ["--format", "labeled", "--column", "text=message", "--column", "label=kind", "--out", "done.jsonl"]
    main(["data", "clean", str(rows), *given])
    assert records(Path("done.jsonl")) == [{"id": "rows:1", "text": "hello", "label": "greeting"}]


def test_steps_from_python(rows: Path) -> None:
    found = luthier.prepare(rows, ["clean", {"deduplicate": {"near": False}}], out="done.parquet")
    assert [example.parts["text"] for example in found.splits["train"]] == ["the old violin", "a brass horn"]
    assert read_examples(Path("done.parquet")) == found.splits["train"]
    assert [entry.action for entry in found.ledger.entries] == ["changed", "changed", "dropped"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["data", "clena", "rows.jsonl"], "did you mean 'clean'?"),
        (["data", "deduplicate", "rows.jsonl", "treshold=0.5"], "did you mean 'threshold'?"),
        (["data", "clean", "row.jsonl"], "did you mean 'rows.jsonl'?"),
        (["data", "clean", "rows.jsonl", "--out", "rows.jsonl"], "another file for the result"),
        (["data", "clean", "rows.jsonl", "--out", "rows.csv"], "ends in .jsonl or .parquet"),
    ],
)
def test_mistakes_have_a_remedy(rows: Path, capsys: pytest.CaptureFixture[str], given: list[str], told: str) -> None:
    before = rows.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in Path().iterdir()] == ["rows.jsonl"]
    assert rows.read_bytes() == before


def test_only_names_that_are_understood_are_written(rows: Path) -> None:
    with pytest.raises(LuthierError, match=r"not written as '\.csv'"):
        luthier.prepare(rows, out="done.csv")


def test_rows_never_take_the_place_of_their_source(rows: Path) -> None:
    before = rows.read_bytes()
    for source in (str(rows), {"path": str(rows), "limit": 1}):
        with pytest.raises(LuthierError, match="would take the place of those they are made from"):
            luthier.prepare(source, steps=["clean"], out=rows)
    assert rows.read_bytes() == before


def test_a_table_without_header_from_the_command_line(rows: Path) -> None:
    Path("rows.csv").write_text("good,I liked it\nbad,Not for me\ngood,I liked it\n")
    named = ["--no-header", "--column", "text=column_2", "--column", "label=column_1"]
    main(["data", "deduplicate", "rows.csv", "near=false", *named])
    assert [record["label"] for record in records(Path("rows.deduplicate.jsonl"))] == ["good", "bad"]
