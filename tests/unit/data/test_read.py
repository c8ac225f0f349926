"""Reading: every kind of file and compression, formats told by content, damage named, ids that last."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.core.errors import DataError, MissingExtra
from luthier.core.example import Example, Turn
from luthier.core.recipe import Source
from luthier.data.read import Read, read

ROWS = [{"text": "how long?", "label": "time"}, {"text": "größer, “lauter”\nund ;|", "label": "tone"}]
SQUEEZE = {"": lambda b: b, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": lambda b: zstandard.compress(b)}


def one(path: Path | str, **source: object) -> Read:
    return read([Source(path=str(path), **source)], bad_rows="quarantine")


def save(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(delimiter: str, rows: list[dict[str, str]]) -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if set(text) & set('"\n\r' + delimiter) else text

    head = list(rows[0])
    return "\n".join(
        delimiter.join(map(cell, cells)) for cells in [head, *([row[key] for key in head] for row in rows)]
    )


def parquet(rows: list[dict[str, object]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def contents(kind: str) -> bytes:
    columns = {key: [row[key] for row in ROWS] for key in ROWS[0]}
    return {
        "rows.jsonl": lines(*ROWS).encode(),
        "rows.json": json.dumps(ROWS, indent=2).encode(),
        "lines.json": lines(*ROWS).encode(),
        "array.jsonl": json.dumps(ROWS, indent=2).encode(),
        "columns.json": json.dumps(columns).encode(),
        "rows.csv": table(",", ROWS).encode(),
        "semicolons.csv": table(";", ROWS).encode(),
        "rows.tsv": table("\t", ROWS).encode(),
        "rows.parquet": parquet(ROWS),
        "parquet.data": parquet(ROWS),
        "bom.csv": b"\xef\xbb\xbf" + table(",", ROWS).encode(),
        "windows.csv": table(",", ROWS[:1]).replace("\n", "\r\n").encode()
        + b"\r\n"
        + b'"gr\xc3\xb6\xc3\x9fer, '
        + '“lauter”\nund ;|",tone\r\n'.encode(),
        "bom.jsonl": b"\xef\xbb\xbf" + lines(*ROWS).encode(),
        "unnamed": lines(*ROWS).encode(),
    }[kind]


KINDS = [
    "rows.jsonl",
    "rows.json",
    "lines.json",
    "array.jsonl",
    "columns.json",
    "rows.csv",
    "semicolons.csv",
    "rows.tsv",
]
KINDS += ["rows.parquet", "parquet.data", "bom.csv", "windows.csv", "bom.jsonl", "unnamed"]


@pytest.mark.parametrize("squeezed", SQUEEZE)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str, squeezed: str) -> None:
    path = save(tmp_path, kind + squeezed, SQUEEZE[squeezed](contents(kind)))
    result = one(path)
    assert [(e.parts["text"], e.target) for e in result.examples] == [(row["text"], row["label"]) for row in ROWS]
    assert result.bad == []
    assert (result.files[0].bytes, result.files[0].rows) == (path.stat().st_size, 2)
    assert result.formats[0].format == "labeled"
    assert result.formats[0].because == "its records have the keys text, label"


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    assert len(one(save(tmp_path, "rows.jsonl", gzip.compress(lines(*ROWS).encode()))).examples) == 2


def test_several_zstd_frames_are_one_file(tmp_path: Path) -> None:
    data = b"".join(zstandard.compress((json.dumps(row) + "\n").encode()) for row in ROWS)
    assert len(one(save(tmp_path, "rows.jsonl.zst", data)).examples) == 2


@pytest.mark.parametrize("squeezed", [".gz", ".xz", ".zst"])
def test_cut_compression_is_an_error(tmp_path: Path, squeezed: str) -> None:
    whole = SQUEEZE[squeezed](lines(*({"text": f"{n} {n * n}"} for n in range(500))).encode())
    with pytest.raises(DataError, match="damaged or cut short"):
        one(save(tmp_path, "rows.jsonl" + squeezed, whole[: len(whole) // 2]))


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    result = one(save(tmp_path, "tale.md", "# The wolf\n\nHe howled.\n"))
    assert [(e.id, e.parts) for e in result.examples] == [("tale:1", {"text": "# The wolf\n\nHe howled.\n"})]


def test_rows_are_lines_and_ids_do_not_depend_on_content(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", 'text,label\n"two\nlines",x\n\nplain,y\n')
    assert [(e.id, e.origin.row) for e in one(path).examples] == [("a:2", 2), ("a:5", 5)]
    path = save(tmp_path, "a.jsonl", '{"text": "x"}\n\n{"text": "y", "id": 7}\n{"text": "z", "id": "own"}\n')
    assert [(e.id, str(e.origin)) for e in one(path).examples] == [
        ("a:1", f"{path}:1"),
        ("7", f"{path}:3"),
        ("own", f"{path}:4"),
    ]


def test_a_folder_is_its_data_files_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/c.jsonl.gz", ".hidden/x.jsonl", "README.md", "notes.pdf"):
        text = lines({"text": name})
        save(tmp_path, name, gzip.compress(text.encode()) if name.endswith("gz") else text)
    assert [(e.id, e.parts["text"]) for e in one(tmp_path).examples] == [("a/c:1", "a/c.jsonl.gz"), ("b:1", "b.jsonl")]


def talk(*turns: tuple[str, object]) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]}).encode()


ASK, TELL = ("user", "hi"), ("assistant", "x")
ROLES = "system, developer, user, assistant, tool"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (talk(ASK)[:-2], "not valid JSON: Expecting ',' delimiter at column 48"),
        (talk(("user", "cafE")).replace(b"E", b"\xe9"), "not valid UTF-8: byte 0xE9 at place 47 of the line"),
        (b'["a"]', "not an object: list where {key: value} belongs"),
        (talk(ASK), "missing answer: the last turn is of user, not of assistant"),
        (talk(ASK, ("assistant", " ")), "empty answer: turn 2 (assistant) says nothing"),
        (talk(("user", ""), TELL), "empty prompt: turn 1 (user) says nothing"),
        (talk(TELL), "turns out of order: turn 1 (assistant) comes after start"),
        (talk(("user", 5), TELL), "wrong type: content of turn 1 is a number, not text"),
        (talk(("user", None), TELL), "missing content: turn 1 has none"),
        (b'{"messages": "hi"}', "wrong type: messages is no list"),
        (b'{"messages": []}', "the conversation is empty"),
        (b'{"text": "hi"}', "missing messages"),
        (talk(("robot", "x")), f"unknown role: turn 1 has 'robot', not one of {ROLES}"),
        (talk(("user", "\ud83d"), TELL), "not valid Unicode: half of a surrogate pair"),
    ],
)
def test_damaged_rows_are_set_aside_with_their_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    good = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "\\ud83d\\ude00"}]}\n'
    path = save(tmp_path, "a.jsonl", good + line + b"\n" + good)
    result = one(path)
    assert [e.origin.row for e in result.examples] == [1, 3]
    assert [(bad.file, bad.row, bad.reason) for bad in result.bad] == [(str(path), 2, reason)]
    assert result.bad[0].text
    with pytest.raises(DataError, match="1 row cannot be read") as caught:
        read([Source(path=str(path))], bad_rows="stop")
    assert f"{path}:2: {reason}" in str(caught.value)
    assert "bad_rows: quarantine" in str(caught.value)


def test_stop_counts_all_and_shows_five(tmp_path: Path) -> None:
    path = save(tmp_path, "a.jsonl", '{"text": "good"}\n' + "{\n" * 8)
    with pytest.raises(DataError, match="8 rows cannot be read") as caught:
        read([Source(path=str(path))])
    assert str(caught.value).count("not valid JSON") == 5
    assert "and 3 more" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "row", "reason"),
    [
        ("a.csv", b"text,label\ngood,x\ncaf\xe9,y\n", 3, "not valid UTF-8: byte 0xE9 at place 4 of line 3"),
        ("a.csv", b"text,label\ngood,x\na,b,c\n", 3, "wrong number of cells: 3 where the header has 2"),
        (
            "a.csv",
            b'text,label\ngood,x\n"open,y\nmore,z\n',
            3,
            "damaged quoting: unexpected end of data; lines 3 to 4 cannot be read",
        ),
        ("a.csv", b"text,label\ngood,x\n,y\n", 3, "empty text: text says nothing"),
        ("a.csv", b"text,label\ngood,x\nwords,\n", 3, "missing label"),
        ("a.json", b'[{"text": "good"},\n {"text": "caf\xe9"}]', 2, "not valid UTF-8: byte 0xE9 at place 15 of line 2"),
        ("a.json", b'[{"text": "good"}, 5]', 2, "not an object: int where {key: value} belongs"),
        ("a.txt", b"caf\xe9", 1, "not valid UTF-8: byte 0xE9 at place 4 of line 1"),
    ],
)
def test_damage_in_tables_and_arrays_is_named(tmp_path: Path, name: str, data: bytes, row: int, reason: str) -> None:
    good = save(tmp_path, "good.jsonl", '{"text": "x"}\n')
    result = read([Source(path=str(save(tmp_path, name, data))), Source(path=str(good))], bad_rows="quarantine")
    assert [(bad.row, bad.reason) for bad in result.bad] == [(row, reason)]
    assert "é" not in result.bad[0].text  # the byte is not guessed at


def test_a_damaged_byte_after_a_lone_carriage_return_is_of_its_row(tmp_path: Path) -> None:
    result = one(save(tmp_path, "a.csv", b"text\ra\rb\x8a\rc\r"))
    assert [e.parts["text"] for e in result.examples] == ["a", "c"]
    assert [str(bad).rpartition("a.csv:")[2] for bad in result.bad] == [
        "3: not valid UTF-8: byte 0x8A at place 2 of line 3"
    ]


def test_a_cut_array_keeps_what_came_before(tmp_path: Path) -> None:
    result = one(save(tmp_path, "a.json", '[{"text": "one"}, {"text": "two"}, {"text": "thr'))
    assert [e.parts["text"] for e in result.examples] == ["one", "two"]
    assert result.bad[0].reason.startswith("not valid JSON: ")
    assert result.bad[0].reason.endswith("the 13 characters from here on cannot be read")


def test_nothing_recognized_lists_keys_formats_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        one(save(tmp_path, "a.jsonl", lines({"frage": "q", "antwort": "a"})))
    text = str(caught.value)
    assert "their keys are frage, antwort" in text
    assert all(name in text for name in ("alpaca (instruction, input, output)", "chat (messages)", "columns:"))


def test_two_formats_at_once_must_be_named(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = save(tmp_path, "a.jsonl", lines({"messages": messages, "text": "a b"}))
    with pytest.raises(DataError, match="can be read as chat or as text"):
        one(path)
    assert one(path, format="text").examples[0].parts == {"text": "a b"}


def test_files_of_one_name_in_two_folders_keep_their_rows_apart(tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(save(tmp_path / folder, "train.jsonl", lines({"text": f"from {folder}"})))
    found = read([Source(path=str(path)) for path in paths])
    assert [example.id for example in found.examples] == ["train:1", f"{paths[1]}:1"]


def test_columns_rename_and_hide(tmp_path: Path) -> None:
    path = save(
        tmp_path, "a.jsonl", lines({"id": 1, "q": "why?", "a": ["so", "", "thus", "so"]}, {"id": 1, "q": "?", "a": "x"})
    )
    named = {"instruction": "q", "output": "a", "id": ""}
    first, second = one(path, columns=named).examples
    assert first.parts["messages"] == (Turn("user", "why?"), Turn("assistant", "so"))
    assert (first.id, first.target, second.target) == ("a:1", ("so", "thus"), None)
    with pytest.raises(DataError, match="the id '1' comes twice") as caught:
        read([Source(path=str(path), columns={"instruction": "q", "output": "a"})])
    assert f"at {path}:1 and at {path}:2" in str(caught.value)
    assert "columns: {id: ''}" in str(caught.value)
    aside = one(path, columns={"instruction": "q", "output": "a"})
    assert ([e.origin.row for e in aside.examples], [bad.row for bad in aside.bad]) == ([1], [2])
    with pytest.raises(DataError, match="no row has the column 'qq'") as caught:
        one(path, columns={"instruction": "qq", "output": "a"})
    assert "one of id, q, a" in str(caught.value)
    assert "did you mean 'q'" in str(caught.value)


def test_groups_weight_and_limit(tmp_path: Path) -> None:
    path = save(tmp_path, "a.jsonl", lines(*({"text": str(n), "tale": n // 2, "kind": "k"} for n in range(6))))
    result = read(
        [Source(path=str(path), weight=2.5, repeat=0.5, limit=4)], split_by="tale", groups=("kind",), optional=("more",)
    )
    assert [e.groups for e in result.examples] == [{"kind": "k", "tale": str(n // 2)} for n in range(4)]
    assert {(e.weight, e.repeat) for e in result.examples} == {(2.5, 0.5)}
    assert result.files[0].rows == 4
    with pytest.raises(DataError, match="no row has the column 'tail'") as caught:
        read([Source(path=str(path))], split_by="tail")
    assert "did you mean 'tale'" in str(caught.value)
    save(tmp_path, "a.jsonl", lines({"text": "x", "tale": 1}, {"text": "y"}))
    assert read([Source(path=str(path))], split_by="tale", bad_rows="quarantine").bad[0].reason == "missing tale"


def test_absent_empty_and_unknown_files(tmp_path: Path) -> None:
    save(tmp_path, "train.jsonl", "")
    with pytest.raises(DataError, match="the file is empty"):
        one(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match=r"did you mean '.*train\.jsonl'"):
        one(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match="neither by its name nor by its content"):
        one(save(tmp_path, "what", "hello"))
    with pytest.raises(DataError, match="UTF-16"):
        one(save(tmp_path, "a.csv", "text\nx".encode("utf-16")))
    with pytest.raises(DataError, match=r"named \.parquet and is none"):
        one(save(tmp_path, "a.parquet", "text"))
    with pytest.raises(DataError, match="Parquet file is damaged"):
        one(save(tmp_path, "b.parquet", parquet(ROWS)[:60]))
    with pytest.raises(DataError, match="Parquet file is damaged"):
        one(save(tmp_path, "e.parquet", parquet(ROWS).replace(b"text", b"te\xf3t")))
    with pytest.raises(DataError, match="columns differ in length: text has 1, label has 2"):
        one(save(tmp_path, "c.json", '{"text": ["x"], "label": ["a", "b"]}'))
    with pytest.raises(DataError, match="columns come twice: text"):
        one(save(tmp_path, "d.csv", "text,text\na,b\n"))


def test_hub_rows_come_through_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[object] = []

    def load(*args: object, **named: object) -> datasets.Dataset:
        asked.append((args, named))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    result = one("owner/intents:small@v1#test")
    assert asked == [(("owner/intents", "small"), {"split": "test", "revision": "v1"})]
    assert [e.target for e in result.examples] == ["time", "tone"]

    def offline(*args: object, **named: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"no network[\s\S]*to_parquet"):
        one("owner/intents")


def test_hub_classes_and_tags_come_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    names = datasets.ClassLabel(names=["O", "B-PER"])
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(names), "kind": names}
    )
    rows = [{"tokens": ["Ann", "sleeps"], "ner_tags": [1, 0], "kind": 1}]
    loaded = datasets.Dataset.from_list(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **named: loaded)
    (example,) = read([Source(path="owner/names")], groups=["kind"]).examples
    assert (example.target, example.groups) == (("B-PER", "O"), {"kind": "B-PER"})


def test_hub_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"luthier\[hub\]"):
        one("owner/intents")


LETTERS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(LETTERS, min_size=1, max_size=8), form=st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet"])
)
def test_any_text_survives_any_file(tmp_path: Path, texts: list[str], form: str) -> None:
    rows = [{"text": text, "label": "x"} for text in texts]
    data: str | bytes
    if form == "parquet":
        data = parquet(rows)
    elif form in ("csv", "tsv"):
        data = table("," if form == "csv" else "\t", rows)
    else:
        data = lines(*rows) if form == "jsonl" else json.dumps(rows)
    examples: list[Example] = one(save(tmp_path, f"a.{form}", data)).examples
    assert [e.parts["text"] for e in examples] == texts


def test_outside_data_is_read(data_file) -> None:
    banking = one(data_file("tasks/banking77/train.csv"))
    assert (len(banking.examples), len({e.target for e in banking.examples}), banking.bad) == (10003, 77, [])
    tales = one(
        data_file("tasks/fairytaleqa/test.jsonl"),
        columns={"instruction": "question", "input": "context", "output": "answers"},
    )
    assert len(tales.examples) == 1007
    assert all(isinstance(e.target, tuple) and e.parts["messages"][-1].content == e.target[0] for e in tales.examples)
    calls = one(data_file("instructions/llama-factory-demos/glaive_toolcall_en_demo.json"))
    turns = [turn for e in calls.examples for turn in e.parts["messages"]]
    assert (len(calls.examples), sum("tool_calls" in turn.extra for turn in turns)) == (300, 211)
