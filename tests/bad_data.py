"""Kinds of bad data, each with what the answer must say: what tests/e2e/test_bad_data.py goes through."""

from __future__ import annotations

import datetime
import gzip
import json
import lzma
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

GOOD = '{"text": "one"}\n{"text": "two"}\n'


@dataclass(frozen=True)
class Bad:
    """Files of which `train` is bad, what the answer must say, and how many rows are left under quarantine.

    left: None where the file as a whole is at fault, and quarantine changes nothing.
    """

    name: str
    content: str | bytes
    says: tuple[str, ...]
    left: int | None = None
    file: str = "a.jsonl"
    data: dict[str, Any] = field(default_factory=dict)


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def talk(*turns: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def not_utf8() -> pa.Array:
    offsets = pa.array([0, 2, 4], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"\xff\xfeab")])


FINE = talk(("user", "hi"), ("assistant", "hello"))
LABELS = lines({"text": "one", "label": "a"}, {"text": "two", "label": "b"})
ALPACA = {"instruction": "why?", "output": "so"}
MANY = (GOOD * 300).encode()
EXPECTED = "JSONL, JSON, CSV, TSV, Parquet or text"

ROWS = (
    # ---- JSONL
    Bad("truncated line", GOOD + '{"text": "thr', ("a.jsonl:3", "not valid JSON", "column 10", "1 row"), 2),
    Bad("Latin-1 line", GOOD.encode() + '{"text": "café"}\n'.encode("latin-1"), ("a.jsonl:3", "0xE9", "UTF-8"), 2),
    Bad("NUL bytes at the end", GOOD + "\0" * 64, ("a.jsonl:3", "a NUL byte at place 1"), 2),
    Bad("control character", GOOD + '{"text": "a\x07b"}', ("a.jsonl:3", "Invalid control character"), 2),
    Bad("half a surrogate pair", GOOD + '{"text": "\\ud83d"}', ("a.jsonl:3", "half of a surrogate pair"), 2),
    Bad("two byte-order marks", b"\xef\xbb\xbf" * 2 + GOOD.encode(), ("a.jsonl:1", "not valid JSON"), 1),
    Bad("list in the place of a row", GOOD + "[1, 2]\n", ("a.jsonl:3", "not an object: list"), 2),
    Bad("list in the place of the first row", "[1, 2]\n" + GOOD, ("a.jsonl:1", "not an object: list"), 2),
    Bad("number in the place of a row", GOOD + "5\n", ("a.jsonl:3", "not an object: int"), 2),
    Bad("key twice", GOOD + '{"text": "a", "text": "b"}', ("a.jsonl:3", "'text' stands twice"), 2),
    Bad("key twice, inside", '{"messages": [{"role": "user", "role": "user"}]}\n', ("a.jsonl:1", "'role' stands")),
    Bad("number of 5,000 digits", GOOD + '{"text": ' + "9" * 5000 + "}", ("a.jsonl:3", "4300 digits"), 2),
    Bad("nested 10,000 deep", GOOD + '{"text": ' + "[" * 10000, ("a.jsonl:3", "nested too deeply"), 2),
    Bad("nested 200 deep", GOOD + '{"text": ' + "[" * 200 + "]" * 200 + "}", ("a.jsonl:3", "nested too deeply"), 2),
    Bad("comma at the end", GOOD + '{"text": "a",}\n', ("a.jsonl:3", "not valid JSON"), 2),
    Bad("Python's quotes", GOOD + "{'text': 'a'}\n", ("a.jsonl:3", "double quotes"), 2),
    Bad("comment line", "// rows\n" + GOOD, ("a.jsonl:1", "not valid JSON"), 2),
    Bad("seven bad rows", GOOD + "{\n" * 7, ("7 rows", "a.jsonl:3", "a.jsonl:7", "and 2 more"), 2),
    Bad("nothing but bad rows", "{\n[\n", ("not one of the 2 rows", "a.jsonl:1", "a.jsonl:2")),
    Bad("CSV named JSONL", "text,label\na,b\n", ("not one of the 2 rows", "a.jsonl:1", "usual ending")),
    # ---- JSON
    Bad("truncated array", '[{"text": "a"}, {"text": "b', ("a.json:2", "cannot be read"), 1, "a.json"),
    Bad("array of lists", "[[1], [2]]", ("a.json:1", "not an object: list"), None, "a.json"),
    Bad("array with a number", '[{"text": "a"}, 5]', ("a.json:2", "not an object: int"), 1, "a.json"),
    Bad("text after the array", '[{"text": "a"}] x', ("a.json:2", "after the array's end"), 1, "a.json"),
    Bad("two objects in a row", '{"text": "a"}{"text": "b"}', ("Extra data", ".jsonl"), None, "a.json"),
    Bad("a number", "5", ("a.json", "one value of JSON (int)"), None, "a.json"),
    Bad("a word", '"rows"', ("a.json", "one value of JSON (str)"), None, "a.json"),
    Bad("null", "null", ("a.json", "one value of JSON"), None, "a.json"),
    Bad("columns of two lengths", '{"text": ["a"], "label": []}', ("text has 1, label has 0",), None, "a.json"),
    Bad("rows under a key", '{"data": [{"text": "a"}]}', ("their keys are data", "columns:"), None, "a.json"),
    Bad("empty array", "[]", ("a.json", "there is no row"), None, "a.json"),
    Bad("objects 10,000 deep", '{"a": ' * 10000, ("a.json", "recursion"), None, "a.json"),
    # ---- tables
    Bad("ragged row", "text,label\na,b\nc\n", ("a.csv:3", "1 where the header has 2"), 1, "a.csv"),
    Bad("quote never closed", 'text,label\na,b\n"c,d\ne,f\n', ("a.csv:3", "lines 3 to 4"), 1, "a.csv"),
    Bad("header again", "text,label\na,b\ntext,label\n", ("a.csv:3", "the header again"), 1, "a.csv"),
    Bad("two columns of a name", "text,text\na,b\n", ("a.csv:1", "columns come twice: text"), None, "a.csv"),
    Bad("two columns without a name", "text,,\na,b,c\n", ("a.csv:1", "without a name"), None, "a.csv"),
    Bad("NUL byte in a cell", "text,label\na,b\nc\0,d\n", ("a.csv:3", "a NUL byte at place 2"), 1, "a.csv"),
    Bad("Latin-1 cell", "text,label\na,b\ncafé,d\n".encode("latin-1"), ("a.csv:3", "0xE9"), 1, "a.csv"),
    Bad("Latin-1 header", "téxt,label\na,b\n".encode("latin-1"), ("a.csv:1", "0xE9"), None, "a.csv"),
    Bad("header alone", "text,label\n", ("a.csv", "there is no row"), None, "a.csv"),
    Bad("no header", "it rains,bad\nit shines,good\n", ("their keys are it rains, bad",), None, "a.csv"),
    Bad("Excel's sep line", "sep=;\ntext;label\na;b\n", ("their keys are sep=",), None, "a.csv"),
    Bad("TSV with a torn quote", 'text\tlabel\na\tb\n"c" d\te\n', ("a.tsv:3", "damaged quoting"), 1, "a.tsv"),
    # ---- Parquet and text
    Bad("truncated Parquet", parquet(text=["a"] * 100)[:-30], ("damaged", "again"), None, "a.parquet"),
    Bad("Parquet's marks alone", b"PAR1PAR1", ("damaged", "again"), None, "a.parquet"),
    Bad("text named Parquet", GOOD, ("named .parquet and is none",), None, "a.parquet"),
    Bad("Parquet of nulls", parquet(text=pa.nulls(2), label=["x", "y"]), ("missing text",), None, "a.parquet"),
    Bad("Parquet of objects", parquet(text=[{"a": 1}], label=["x"]), ("text is an object",), None, "a.parquet"),
    Bad("Parquet of bytes", parquet(text=[b"a"], label=["x"]), ("text is bytes",), None, "a.parquet"),
    Bad(
        "Parquet that is not UTF-8", parquet(text=not_utf8(), label=["x", "y"]), ("a.parquet:1", "0xFF"), 1, "a.parquet"
    ),
    Bad(
        "Parquet of dates", parquet(text=["a"], label=[datetime.date(2020, 1, 1)]), ("not a class",), None, "a.parquet"
    ),
    Bad(
        "Parquet with the year 148,000",
        parquet(text=["a"], label=["x"], at=pa.array([2**62], pa.timestamp("us"))),
        ("a.parquet:1", "not a value"),
        None,
        "a.parquet",
    ),
    Bad("text that is not UTF-8", b"caf\xe9", ("a.txt:1", "0xE9"), None, "a.txt"),
    Bad("text with a NUL byte", "one\ntwo\0", ("a.txt:1", "a NUL byte at place 4 of line 2"), None, "a.txt"),
    # ---- what files are
    Bad("empty file", "", ("a.jsonl", "the file is empty"), None),
    Bad("blank lines", "\n \n\t\n", ("a.jsonl", "the file is empty"), None),
    Bad("byte-order mark alone", b"\xef\xbb\xbf", ("a.jsonl", "the file is empty"), None),
    Bad("UTF-16", GOOD.encode("utf-16"), ("a.jsonl", "UTF-16", "iconv"), None),
    Bad("UTF-16 without a mark", GOOD.encode("utf-16-le"), ("a.jsonl", "UTF-16", "iconv"), None),
    Bad("UTF-32", GOOD.encode("utf-32"), ("a.jsonl", "UTF-32", "iconv"), None),
    Bad("zero bytes", b"\0" * 4096, ("a.jsonl", "nothing but zero bytes"), None),
    Bad("ZIP archive", b"PK\x03\x04 rows", ("a ZIP archive", EXPECTED), None),
    Bad("bzip2", b"BZh91AY&SY rows", ("bzip2", "bunzip2"), None),
    Bad("tar archive", b"rows.jsonl".ljust(257, b"\0") + b"ustar\0", ("a tar archive",), None),
    Bad("PDF", b"%PDF-1.7\n", ("a PDF document",), None, "a.txt"),
    Bad("pickle", b"\x80\x04\x95rows", ("a pickle, which can run code",), None),
    Bad("web page", "<!DOCTYPE html>\n<html>404</html>\n", ("a web page", "login"), None, "a.csv"),
    Bad("pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\n", ("git lfs pull",), None),
    Bad("kind unknown", "hello\n", ("neither by its name nor by its content",), None, "a.dat"),
    Bad("truncated gzip", gzip.compress(MANY)[:-12], ("damaged or cut short",), None, "a.jsonl.gz"),
    Bad("truncated xz", lzma.compress(MANY)[:-12], ("damaged or cut short",), None, "a.jsonl.xz"),
    Bad("truncated zstd", zstandard.compress(MANY)[:-12], ("damaged or cut short",), None, "a.jsonl.zst"),
    Bad("gzip with a wrong sum", gzip.compress(MANY)[:-8] + bytes(8), ("damaged or cut",), None, "a.jsonl.gz"),
    Bad("gzip and garbage", gzip.compress(MANY) + b"more", ("damaged or cut short",), None, "a.jsonl.gz"),
    Bad("gzip in gzip", gzip.compress(gzip.compress(MANY)), ("packed twice",), None, "a.jsonl.gz"),
    Bad("gzip of nothing", gzip.compress(b""), ("the file is empty",), None, "a.jsonl.gz"),
    # ---- what rows say
    Bad("mixed schemas", LABELS + lines(FINE, {"text": "x", "label": "a"}), ("a.jsonl:3", "missing text"), 3),
    Bad("no schema in common", lines({"q": 1}, {"a": 2}), ("their keys are q, a",)),
    Bad("numbers as text", GOOD + lines({"text": 5}), ("a.jsonl:3", "text is a number"), 2),
    Bad("empty text", GOOD + lines({"text": " \n"}), ("a.jsonl:3", "empty text"), 2),
    Bad("missing answer", lines(FINE, talk(("user", "hi"))), ("a.jsonl:2", "missing answer"), 1),
    Bad("empty answer", lines(FINE, talk(("user", "hi"), ("assistant", ""))), ("a.jsonl:2", "empty answer"), 1),
    Bad("blank answer", lines(ALPACA, {**ALPACA, "output": " \t"}), ("a.jsonl:2", "empty answer"), 1),
    Bad("null answer", lines(ALPACA, {**ALPACA, "output": None}), ("a.jsonl:2", "missing output"), 1),
    Bad("no list of answers", lines(ALPACA, {**ALPACA, "output": []}), ("a.jsonl:2", "missing output"), 1),
    Bad("history that is a number", lines(ALPACA, {**ALPACA, "history": 5}), ("a.jsonl:2", "no list of pairs"), 1),
    Bad("unknown role", lines(FINE, talk(("robot", "hi"))), ("a.jsonl:2", "'robot'", "assistant"), 1),
    Bad("assistant first", lines(FINE, talk(("assistant", "hi"))), ("a.jsonl:2", "turns out of order"), 1),
    Bad("two users in a row", lines(FINE, talk(("user", "a"), ("user", "b"))), ("a.jsonl:2", "out of order"), 1),
    Bad("system in the middle", lines(FINE, talk(("user", "a"), ("system", "b"))), ("turn 2 (system)",), 1),
    Bad("content that is a number", lines(FINE, talk(("user", 5))), ("a.jsonl:2", "is a number"), 1),
    Bad("image in the content", lines(FINE, talk(("user", [{"type": "image"}]))), ("'image'", "only text"), 1),
    Bad("turns that are text", lines(FINE, FINE, {"messages": "hi"}), ("a.jsonl:3", "no list"), 2),
    Bad("no turn to learn", lines(FINE, {"messages": [{**m, "train": False} for m in FINE["messages"]]}), ("2",), 1),
    Bad("tools that are no JSON", lines(FINE, {**FINE, "tools": "{"}), ("a.jsonl:2", "damaged tools"), 1),
    Bad(
        "call that is no JSON",
        lines(
            *(
                {"conversations": [{"from": "human", "value": "a"}, {"from": f, "value": "{"}]}
                for f in ("gpt", "function_call")
            )
        ),
        ("a.jsonl:2", "damaged call"),
        1,
    ),
    Bad("null label", LABELS + lines({"text": "x", "label": None}), ("a.jsonl:3", "missing label"), 2),
    Bad("empty label", LABELS + lines({"text": "x", "label": ""}), ("a.jsonl:3", "missing label"), 2),
    Bad("label 0.5", LABELS + lines({"text": "x", "label": 0.5}), ("a.jsonl:3", "0.5, not a class"), 2),
    Bad("label NaN", LABELS + '{"text": "x", "label": NaN}\n', ("a.jsonl:3", "nan, not a class"), 2),
    Bad("nested label", LABELS + lines({"text": "x", "label": {"a": 1}}), ("a.jsonl:3", "not a class"), 2),
    Bad("label in lists of lists", LABELS + lines({"text": "x", "label": [["a"]]}), ("a.jsonl:3", "a class"), 2),
    Bad("double ids", lines(*({"text": t, "id": 7} for t in "abc")), ("2 rows", "a.jsonl:2", "columns: {id: ''}"), 1),
    Bad("ids 1 and '1'", lines({"text": "a", "id": 1}, {"text": "b", "id": "1"}), ("a.jsonl:2", "comes twice"), 1),
    Bad("id of a row by number", lines({"text": "a", "id": "a:2"}, {"text": "b"}), ("a.jsonl:2", "comes twice"), 1),
    Bad(
        "absent group",
        lines({"text": "a", "tale": 1}, {"text": "b"}),
        ("a.jsonl:2", "missing tale"),
        1,
        data={"groups": ["tale"]},
    ),
    Bad(
        "group that is a list",
        lines({"text": "a", "tale": 1}, {"text": "b", "tale": [1]}),
        ("tale is not one",),
        1,
        data={"groups": ["tale"]},
    ),
    Bad("column that is not there", GOOD, ("no row has the column 'txt'", "'text'"), data={"columns": {"text": "txt"}}),
    # ---- what is left
    Bad(
        "split that leaves nothing",
        GOOD,
        ("data.validation", "left validation without a row"),
        data={"validation": 1e-9},
    ),
    Bad(
        "step that leaves nothing",
        lines({"text": "\u200b"}),
        ("'clean' left train", "1 empty text"),
        data={"steps": ["clean"]},
    ),
)

WORKS = (
    Bad("byte-order mark", b"\xef\xbb\xbf" + GOOD.encode(), (), 2),
    Bad("no line end", GOOD.rstrip("\n"), (), 2),
    Bad("line ends of Windows", GOOD.replace("\n", "\r\n"), (), 2),
    Bad("line ends of an old Mac", "text,label\ra,b\rc,d\r", (), 2, "a.csv"),
    Bad("separator ;", "text;label\na,1;b\n", (), 1, "a.csv"),
    Bad("column without a name", ",text,label\n0,a,b\n", (), 1, "a.csv"),
    Bad("gzip by its content", gzip.compress(GOOD.encode()), (), 2),
    Bad("gzip in two parts", gzip.compress(GOOD.encode()) + gzip.compress(b'{"text": "c"}\n') + bytes(512), (), 3),
    Bad("named gzip and not packed", GOOD, (), 2, "a.jsonl.gz"),
    Bad("blank lines between", GOOD.replace("\n", "\n\n \n"), (), 2),
    Bad("line separator of Unicode", '{"text": "a\u2028b\u0085c"}\n', (), 1),
    Bad("ids that are no text", lines(*({"text": "a", "id": id} for id in (1.5, [1], None, "", True))), (), 5),
    Bad("numbers for classes", lines(*({"text": "a", "label": label} for label in (3, 3.0, "3"))), (), 3),
    Bad(
        "Parquet with a nanosecond",
        parquet(text=["a"], at=pa.array([2**62 + 1], pa.timestamp("ns"))),
        (),
        1,
        "a.parquet",
    ),
)
