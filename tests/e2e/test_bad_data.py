"""Data that is damaged, foreign or incomplete: each kind is answered with file and line, a count and a remedy.

Exit code 2, no traceback, nothing half-written. Where rows are at fault, data.bad_rows=quarantine goes on without them.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_runs
from bad_data import FINE, GOOD, LABELS, ROWS, WORKS, Bad, lines, talk

import luthier
from luthier.cli.main import main
from luthier.core.errors import DataError, LuthierError
from luthier.core.example import Example, Origin, turns
from luthier.core.recipe import Data
from luthier.data import row as limits
from luthier.data.ledger import Ledger
from luthier.data.parts import refuse_unfit
from luthier.data.prepare import prepare
from luthier.objectives.classify import Classify
from luthier.pipeline import run


def write(case: Bad) -> dict[str, Any]:
    Path(case.file).write_bytes(case.content.encode() if isinstance(case.content, str) else case.content)
    return {"train": case.file, **case.data}


def told(error: LuthierError, case: Bad) -> None:
    """Everything that the case must say, a place, and a remedy in every problem."""
    for words in (*case.says, case.file if not case.says[0].startswith(("data.", "'clean'")) else "data."):
        assert words in str(error)
    assert all(problem.remedy for problem in error.problems)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_bad_data_is_told_with_its_place_and_can_be_quarantined(case: Bad) -> None:
    given = write(case)
    with pytest.raises(LuthierError) as caught:
        prepare(Data(**given), 1)
    told(caught.value, case)
    aside = Data(**given, bad_rows="quarantine")
    if case.left is None:
        with pytest.raises(LuthierError):
            prepare(aside, 1)
        return
    assert "bad_rows: quarantine" in str(caught.value)
    prepared = prepare(aside, 1)
    bad = [entry for entry in prepared.ledger.entries if entry.action == "unread"]
    assert len(prepared.splits["train"]) == case.left
    assert len(bad) == prepared.files[0].rows - case.left == prepared.summary["unread"] > 0
    for row in bad[:5]:
        assert f"{row.file}:{row.row}: " in str(caught.value)


@pytest.mark.parametrize("case", WORKS, ids=lambda case: case.name)
def test_what_looks_odd_and_is_whole_is_read(case: Bad) -> None:
    assert len(prepare(Data(**write(case)), 1).splits["train"]) == case.left


def told_by_the_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    shown = capsys.readouterr()
    assert end.value.code == 2, shown.err
    assert "Traceback" not in shown.err + shown.out
    assert "error:" in shown.err
    return shown.err


def half_written(name: str = "small") -> list[str]:
    """What a later run of this folder could take for prepared data or for a result."""
    folder = Path("runs", name)
    return [str(file) for file in folder.rglob("*") if file.suffix in (".parquet", ".safetensors", ".part", ".html")]


def command(recipe: dict[str, Any], data: dict[str, Any]) -> list[str]:
    Path("small.yaml").write_text(json.dumps({**recipe, "data": data}), encoding="utf-8")
    return ["run", "small.yaml"]


@pytest.mark.parametrize("case", ROWS[::4], ids=lambda case: case.name)
def test_the_command_says_the_same_and_leaves_nothing_half_written(
    case: Bad, llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_runs.lm_recipe(llama_folder, Path(case.file))
    said = told_by_the_command(command(recipe, write(case)), capsys)
    for words in case.says:
        assert words in said
    assert half_written() == []


def test_a_quarantined_run_keeps_the_bad_rows_in_its_ledger(llama_folder: Path) -> None:
    text = "".join(json.dumps(record) + "\n" for record in small_runs.chat_records(12))
    Path("a.jsonl").write_text("{\n" + text + '{"messages": []}\n', encoding="utf-8")
    recipe = small_runs.lm_recipe(llama_folder, Path("a.jsonl"))
    recipe["data"]["bad_rows"] = "quarantine"
    said: list[str] = []
    run(recipe, until="prepare", listeners=[lambda event: said.append(str(event.get("text")))])
    entries = Ledger.read(Path("runs/small/data/ledger.parquet")).entries
    assert [(entry.row, entry.action, entry.before) for entry in entries] == [
        (1, "unread", "{"),
        (14, "unread", '{"messages": []}'),
    ]
    assert any("2 rows could not be read and were set aside, the first at a.jsonl:1" in text for text in said)


def test_rows_handed_over_in_python_are_told_like_those_of_a_file(llama_folder: Path) -> None:
    with pytest.raises(DataError, match=r"given\.jsonl:2: not valid Unicode: half of a surrogate pair"):
        luthier.fit(str(llama_folder), [{"text": "größer"}, {"text": "\ud83d"}])
    assert half_written("fit") == []


# ---- folders and what is no file -------------------------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def empty_folder(path: Path) -> None:
    path.mkdir()
    (path / "README.md").write_text("no data", encoding="utf-8")
    (path / "photo.png").write_bytes(b"\x89PNG")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (pipe, ("this is a pipe or a device", "write its content to a file")),
        (loop, ("this link leads nowhere",)),
        (lambda path: path.symlink_to("gone.jsonl"), ("this link leads nowhere",)),
        (lambda path: path.symlink_to("/dev/zero"), ("this is a pipe or a device",)),
        (empty_folder, ("the folder holds no data file", ".jsonl", "passed over")),
    ],
    ids=["pipe", "loop of links", "link to nothing", "device", "folder without data"],
)
def test_what_is_no_file_is_told_before_anything_is_loaded(
    make: Callable[[Path], None], says: tuple[str, ...], llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(Path("a.jsonl"))
    said = told_by_the_command(command(small_runs.lm_recipe(llama_folder, Path("a")), {"train": "a.jsonl"}), capsys)
    assert all(words in said for words in ("data.train", "remedy:", *says))
    assert not Path("runs").exists()
    with pytest.raises(DataError, match=says[0]):
        prepare(Data(train="a.jsonl"), 1)


def test_folders_are_never_read_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rows/closed").mkdir(parents=True)
    Path("rows/a.jsonl").write_text(GOOD, encoding="utf-8")
    Path("rows/closed/b.jsonl").write_text(GOOD, encoding="utf-8")
    Path("rows/loop").symlink_to(Path("rows").resolve())
    assert len(prepare(Data(train="rows"), 1).splits["train"]) == 4
    look = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="rows/closed: there is no right to read it"):
        prepare(Data(train="rows"), 1)


def test_a_file_without_the_right_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.jsonl").write_text(GOOD, encoding="utf-8")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything
    with pytest.raises(DataError, match=r"a\.jsonl: there is no right to read it[\s\S]*chmod"):
        prepare(Data(train="a.jsonl"), 1)


def test_files_of_a_folder_may_differ_in_kind_and_each_is_told_by_name() -> None:
    Path("rows").mkdir()
    for name, content in (("a.jsonl", LABELS), ("b.csv", "text,label\nx,y\n"), ("c.jsonl", lines(FINE) + "{\n")):
        Path("rows", name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"1 row cannot be read:\s+rows/c\.jsonl:2"):
        prepare(Data(train="rows"), 1)
    prepared = prepare(Data(train="rows", bad_rows="quarantine"), 1)
    assert [fact.format for fact in prepared.formats] == ["labeled", "labeled", "chat"]
    assert len(prepared.splits["train"]) == 4


# ---- rows that are too long ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "begin", "end"),
    [
        ("a.jsonl", '{"text": "', '"}\n'),
        ("a.csv", 'text,label\na,b\n"', '",c\n'),
        ("a.txt", "", ""),
        ("a.jsonl.gz", '{"text": "', '"}\n'),
    ],
)
def test_a_row_beyond_the_limit_is_refused(file: str, begin: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LONGEST_ROW", 100_000)
    text = (begin + "long " * 30_000 + end + ("" if file != "a.jsonl" else GOOD)).encode()
    Path(file).write_bytes(gzip.compress(text) if file.endswith("gz") else text)
    with pytest.raises(DataError, match=r"over-long row: more than 100,000 bytes[\s\S]*cut it into several rows"):
        prepare(Data(train=file), 1)
    if file in ("a.jsonl", "a.csv"):
        prepared = prepare(Data(train=file, bad_rows="quarantine"), 1)
        (entry,) = (entry for entry in prepared.ledger.entries if entry.action == "unread")
        assert len(entry.before or "") <= 1000
        assert len(prepared.splits["train"]) == {"a.jsonl": 2, "a.csv": 1}[file]


@pytest.mark.slow
def test_a_line_of_a_billion_characters() -> None:
    with Path("a.jsonl").open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(1000):
            file.write(b"a" * 1_000_000)
        file.write(b'"}\n' + GOOD.encode())
    prepared = prepare(Data(train="a.jsonl", bad_rows="quarantine"), 1)
    assert [str(bad).partition(" more")[0] for bad in prepared.bad] == ["a.jsonl:1: over-long row:"]
    assert len(prepared.splits["train"]) == 2


@pytest.mark.parametrize(("policy", "says"), [("error", "since overlong is 'error'"), ("drop", "none of")])
def test_rows_beyond_max_length_by_policy(
    policy: str, says: str, llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [talk(("user", "why? " * 200), ("assistant", "so")) for _ in range(8)]
    data = small_runs.write_jsonl(Path("a.jsonl"), long)
    recipe = small_runs.lm_recipe(llama_folder, data, overlong=policy, max_length=32)
    said = told_by_the_command(command(recipe, {"train": str(data)}), capsys)
    assert says in said
    assert "remedy:" in said
    assert not Path("runs/small/model").exists()


# ---- classes ---------------------------------------------------------------------------------------------------------


def classes(names: str) -> list[dict[str, str]]:
    return [{"text": f"{name} number {number}", "label": name} for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ("aaaa", "aa", ("a.jsonl", "holds 1 class, 'a'", "at least two classes")),
        ("abab", "abcac", ("b.jsonl:3", "'c' does not occur", "2 rows have such a class, 1 in all", "add rows")),
    ],
    ids=["one class", "class only in test"],
)
def test_classes_are_held_against_the_training_data_before_training(
    train: str, test: str, says: tuple[str, ...], llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, given in (("a.jsonl", train), ("b.jsonl", test)):
        small_runs.write_jsonl(Path(name), classes(given))
    recipe = small_runs.class_recipe(llama_folder, Path("a.jsonl"))
    said = told_by_the_command(command(recipe, {"train": "a.jsonl", "test": "b.jsonl"}), capsys)
    assert all(words in said for words in says)
    assert list(Path("runs/small").rglob("checkpoints")) == []


UNFIT = {
    "preferences": {"prompt": "hi", "chosen": "hello", "rejected": "what"},
    "feedback": {"prompt": "hi", "completion": "hello", "label": True},
    "pairs": {"a": "x", "b": "y", "label": "same"},
    "spans": {"question": "who?", "context": "Ann", "answers": {"text": ["Ann"], "answer_start": [0]}},
    "tags": {"tokens": ["Ann", "sleeps"], "tags": ["B-PER", "O"]},
}


@pytest.mark.parametrize("name", UNFIT)
def test_an_objective_refuses_rows_that_it_cannot_learn_from(name: str, llama_folder: Path) -> None:
    Path("a.jsonl").write_text((json.dumps(UNFIT[name]) + "\n") * 6)
    with pytest.raises(DataError, match="causal_lm cannot learn from row 'a:") as caught:
        run(small_runs.lm_recipe(llama_folder, Path("a.jsonl")), until="prepare")
    (problem,) = caught.value.problems
    assert str(problem.where).startswith("a.jsonl:")
    assert "messages or text" in str(problem.expected)
    assert "data.format=alpaca (or chat," in str(problem.remedy)
    assert "data.columns" in str(problem.remedy)


def test_an_objective_that_could_learn_from_the_rows_is_named() -> None:
    talks = [Example(f"a:{row}", {"messages": turns(("user", "hi"))}, Origin("a", row)) for row in (1, 2)]
    with pytest.raises(DataError, match="and 1 more of 2 rows have none") as caught:
        refuse_unfit(talks, Classify())
    assert "an objective that learns from these: causal_lm" in str(caught.value.problems[0].remedy)
