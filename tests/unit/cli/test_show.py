"""`luthier data show`: rows as a recipe would read them, columns with statistics, and what to do where none fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthier.cli.main import main
from luthier.data import cut
from luthier.pipeline.data import shown


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    try:
        main(["data", "show", *words])
        found = 0
    except SystemExit as error:
        found = int(error.code or 0)
    out = capsys.readouterr()
    assert found == code, out
    assert "Traceback" not in out.err
    return out.out + out.err


def test_format_columns_classes_and_first_rows_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "how long?", "label": "time", "note": ""}, {"text": "so loud", "label": "tone", "note": "sic"}]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {"text": "when?"}]))
    with Path("rows.jsonl").open("a") as file:
        file.write('{"text": "torn\n')
    out = told(capsys, "rows.jsonl", "--rows", "1")
    for part in (
        "rows.jsonl: labeled, its records have the keys text, label (4 rows looked at, 1 of them cannot be read)",
        "rows.jsonl:4: not valid JSON",
        "classes: time 2, tone 1",
        "rows:1 rows.jsonl:1",
        "how long?",
        "target  time",
        "--format NAME",
    ):
        assert part in out
    assert "rows:2" not in out


def test_what_the_columns_hold() -> None:
    rows = [
        {"question": "why?", "answer": "so", "n": 1, "tags": ["a", "b"]},
        {"question": "who?", "answer": "you", "n": 5},
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (file,) = shown("rows.jsonl")
    columns = {column.name: column for column in file.columns}
    assert file.format == "alpaca"
    assert columns["question"].read
    assert columns["n"].read is None
    assert (columns["n"].kinds, columns["n"].size, columns["n"].distinct) == (("number",), "1 to 5", 2)
    assert (columns["tags"].filled, columns["tags"].size) == (1, "median 2, up to 2 items")
    assert columns["answer"].size == "median 2.5, up to 3 characters"
    assert len(file.examples) == 2


def test_where_no_format_fits_the_columns_are_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("good,I liked it\nbad,Not for me\ngood,Great\ngood,More\n")
    assert "header: false" in told(capsys, "rows.csv", code=2)
    out = told(capsys, "rows.csv", "--no-header", code=2)
    assert "no format fits" in out
    assert "column_2" in out
    assert "columns:" in out
    out = told(capsys, "rows.csv", "--no-header", "--column", "text=column_2", "--column", "label=column_1")
    assert "labeled" in out
    assert "classes: good 3, bad 1" in out
    assert "I liked it" in out
    assert not list(Path().glob("*.jsonl"))


def test_a_folder_is_shown_file_by_file_up_to_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        Path("rows", name).parent.mkdir(exist_ok=True)
        Path("rows", f"{name}.jsonl").write_text('{"text": "x y"}\n' * 3)
    out = told(capsys, "rows", "--limit", "4")
    assert "rows/a.jsonl: text" in out
    assert "(3 rows looked at)" in out
    assert "(1 row looked at)" in out


def test_of_a_large_file_the_first_piece_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(300)))
    monkeypatch.setattr(cut, "PIECE", 1000)
    begun: list[int] = []
    plain = cut.Piece.records
    monkeypatch.setattr(cut.Piece, "records", lambda piece, shown: begun.append(piece.start) or plain(piece, shown))
    (file,) = shown("rows.jsonl", limit=60)
    assert (file.rows, len(begun)) == (60, 2)
    assert file.columns[0].distinct == 60


def test_what_a_row_holds_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_text(json.dumps({"text": "a [red]b\x1b[2J", "label": "[bold]x\x1b"}) + "\n")
    out = told(capsys, "rows.jsonl")
    assert "a [red]b\\x1b[2J" in out
    assert "\x1b[2J" not in out
