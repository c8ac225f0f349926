"""Random damage to files, records, texts and conversations: an error of ours or a sound result, nothing lost.

Each property runs with the same examples every time, and as a slow test with many more, which `make fuzz` draws anew.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fuzzing import EDITS, JSON, KEYS, PLAIN, ROLES, TEXT, Edits, Property, edited
from hypothesis import strategies as st
from tiny import CHATML_MARKED, CHATML_PLAIN, make_tokenizer

from luthier.core.component import build, find, names
from luthier.core.contracts import Format, Step, StepContext
from luthier.core.errors import DataError, LuthierError
from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Data
from luthier.data.detect import detect
from luthier.data.ledger import Ledger
from luthier.data.prepare import Prepared, load, prepare, save
from luthier.data.template import ChatTemplate

ROWS: list[dict[str, Any]] = [
    {"text": f"größer {number}, “lauter”;\n|", "label": "ab"[number % 2]} for number in range(9)
]
CHAT = [
    {"messages": [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": "ja"}]}
    for number in range(5)
]


SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": f"größer {number} als",
                    "qas": [
                        {"id": f"{number}{q}", "question": "wer?", "answers": [{"text": "als", "answer_start": 9}]}
                    ],
                }
                for q in "ab"
            ],
        }
        for number in range(3)
    ],
}
TASK = {
    "Definition": ["Sag das Gegenteil."],
    "Positive Examples": [{"input": "groß", "output": "klein", "explanation": ""}],
    "Instances": [{"id": f"task1-{number}", "input": f"{number}", "output": ["ja", "doch"]} for number in range(5)],
}
CONLL = "-DOCSTART-\tO\n\n" + "Zoë\tB-PER\nging\tO\n\n# id\n#\tO\n" * 4


def packed() -> dict[str, bytes]:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    chat = "".join(json.dumps(row) + "\n" for row in CHAT).encode()
    table = "text,label\r\n" + "".join(f'"{row["text"]}",{row["label"]}\r\n' for row in ROWS)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(CHAT), sink, compression="none")
    return {
        "lines.jsonl": lines,
        "chat.jsonl": chat,
        "array.json": json.dumps(ROWS, indent=1).encode(),
        "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}).encode(),
        "table.csv": table.encode(),
        "table.tsv": table.replace(",", "\t").encode(),
        "text.txt": lines,
        "squad.json": json.dumps(SQUAD).encode(),
        "task.json": json.dumps(TASK, indent=1).encode(),
        "sentences.conll": CONLL.encode(),
        "unnamed": chat,
        "chat.parquet": sink.getvalue().to_pybytes(),
        "lines.jsonl.gz": gzip.compress(lines, mtime=0),
        "table.csv.xz": lzma.compress(table.encode()),
        "chat.jsonl.zst": zstandard.compress(chat),
    }


FILES = packed()


# ---- files -----------------------------------------------------------------------------------------------------------


def prepared_or_error(data: Data) -> Prepared | LuthierError:
    try:
        return prepare(data, 1)
    except LuthierError as error:
        return error


def broken_files(name: str, edits: Edits) -> None:
    """A damaged file is refused with a remedy, or every row of it is an example or a line of the ledger."""
    content = edited(FILES[name], edits)
    Path(name).write_bytes(content)
    found = prepared_or_error(Data(train=name, bad_rows="quarantine"))
    stopped = prepared_or_error(Data(train=name))
    if isinstance(found, LuthierError):
        assert isinstance(stopped, LuthierError)
        assert all(problem.remedy for problem in found.problems), found
        return
    unread = [entry for entry in found.ledger.entries if entry.action == "unread"]
    assert isinstance(stopped, DataError) == bool(unread)
    examples = found.splits["train"]
    assert len(examples) + len(unread) == found.files[0].rows
    assert len({example.id for example in examples}) == len(examples)
    if name.endswith(".jsonl") and not content.lstrip(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        assert found.files[0].rows == sum(bool(line.strip()) for line in content.split(b"\n"))
    save(found, Path("prepared"))
    again = load(Path("prepared"))
    assert (again.splits, again.ledger) == (found.splits, found.ledger)


def any_records(records: list[dict[str, Any]]) -> None:
    """A format reads a record or says in a ValueError what is wrong; told apart, or refused with a remedy."""
    for name in names("formats"):
        chosen = build("formats", name)
        assert isinstance(chosen, Format)
        for record in records:
            chosen.recognizes(record)
            with contextlib.suppress(ValueError):
                assert chosen.contents(record)["parts"]
            for row in chosen.rows(record) or ():
                chosen.recognizes(row)
                with contextlib.suppress(ValueError):
                    assert chosen.contents(row)["parts"]
    with contextlib.suppress(DataError):
        detect(records, "a.jsonl")


IDS = st.one_of(st.integers(0, 3), st.sampled_from(["0", "a:1", ""]), st.none())
GOOD = st.one_of(
    st.fixed_dictionaries({"text": TEXT}, optional={"id": IDS, "label": PLAIN}),
    st.fixed_dictionaries({"messages": st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXT}), max_size=4)}),
    st.fixed_dictionaries({"instruction": TEXT, "output": st.one_of(TEXT, st.lists(TEXT, max_size=2))}),
    st.sampled_from([find("formats", name).sample for name in names("formats")]).flatmap(
        lambda sample: st.dictionaries(st.sampled_from(list(sample)), JSON, max_size=2).map(
            lambda more: {**sample, **more}
        )
    ),
)


def any_lines(records: list[Any]) -> None:
    """Rows of any values, as a file: nothing is lost, and what is kept comes back from the store as it was."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    Path("a.jsonl").write_text(text, encoding="utf-8")
    found = prepared_or_error(Data(train="a.jsonl", bad_rows="quarantine"))
    if isinstance(found, Prepared) and not (len(records) == 1 and isinstance(records[0], list)):  # an array of rows
        assert len(found.splits["train"]) + found.summary["unread"] == len(records)
        assert len({example.id for example in found.splits["train"]}) == len(found.splits["train"])
        save(found, Path("prepared"))
        assert load(Path("prepared")).splits == found.splits


# ---- steps -----------------------------------------------------------------------------------------------------------

PIECES = ("&amp;", "amp;", "lt;", "&nbsp;", "<b>", "</b>", "<p ", ">", "<br/>", "```", "`", "Ã©", "â€™", "\x1b[31m")
PIECES += (
    "\u200b",
    "\u200d",
    "\ufeff",
    "\r\n",
    "\x85",
    "\uff06",
    "\uff1b",
    "e\u0301",
    "\u0958",
    " \t",
    "\n\n\n",
    "tag",
)
HARD = st.lists(st.one_of(TEXT, st.sampled_from(PIECES)), max_size=12).map("".join)


def run_step(step: Mapping[str, Any] | str, examples: list[Example]) -> tuple[list[Example], Ledger]:
    made = build("steps", step)
    assert isinstance(made, Step)
    ledger = Ledger()
    return list(made.run(examples, StepContext("train", 1, ledger.page("train", "step")))), ledger


def any_texts(texts: list[str], unicode: str) -> None:
    """A step gives the same twice, changes nothing that it made itself, and writes every lost row down."""
    examples = [
        Example(f"t:{number}", {"text": text}, Origin("t", number), "c" if number % 3 else None)
        for number, text in enumerate(texts)
    ]
    examples += [
        Example(f"c:{number}", {"messages": (Turn("user", text), Turn("assistant", texts[-1]))}, Origin("c", number))
        for number, text in enumerate(texts)
    ]
    for step in ({"clean": {"unicode": unicode}}, {"deduplicate": {"threshold": 0.5, "shingle": 1}}):
        kept, ledger = run_step(step, examples)
        again, same = run_step(step, examples)
        assert (kept, ledger) == (again, same)
        dropped = [entry.id for entry in ledger.entries if entry.action == "dropped"]
        assert sorted([example.id for example in kept] + dropped) == sorted(example.id for example in examples)
        for entry in ledger.entries:
            if entry.action == "dropped":
                assert entry.dropped() in examples
        changed = {entry.id for entry in ledger.entries if entry.action == "changed"}
        before = {example.id: example for example in examples}
        assert all(example == before[example.id] for example in kept if example.id not in changed)
        final, more = run_step(step, kept)
        assert final == kept
        assert not [entry for entry in more.entries if entry.action in ("dropped", "changed")]


# ---- conversations ---------------------------------------------------------------------------------------------------

TEMPLATES = [ChatTemplate(make_tokenizer(source)) for source in (CHATML_MARKED, CHATML_PLAIN)]
SPELLED = st.lists(
    st.one_of(TEXT, st.sampled_from(["<|im_end|>", "<|im_start|>", "<|pad|>", "assistant\n", "\ue000"])), max_size=4
)


def any_conversations(said: list[tuple[list[str], list[str]]]) -> None:
    """What is learned is the answers with their stop tokens, whatever was typed; nothing is lost on the way."""
    talk = tuple(
        Turn(role, "".join(text)) for asked, told in said for role, text in (("user", asked), ("assistant", told))
    )
    for template in TEMPLATES:
        rendered = template.render(talk)
        ids, supervised = template.encode(rendered)
        assert template.tokenizer.decode(ids) == rendered.text
        stop = template.tokenizer.eos_token_id
        assert int((ids == stop).sum()) == len(talk)  # one a turn, and none that was typed
        assert int(((ids == stop) & supervised).sum()) == len(said)
        answers = [turn.content + "<|im_end|>" for turn in talk if turn.role == "assistant"]
        assert [rendered.text[start:end].strip() for start, end in rendered.spans] == [text.strip() for text in answers]
        prompt = template.prompt(talk[:-1])
        assert ids[: len(prompt)].tolist() == prompt


PROPERTIES = {
    prop.holds.__name__: prop
    for prop in (
        Property(broken_files, 200, {"name": st.sampled_from(sorted(FILES)), "edits": EDITS}),
        Property(
            any_records, 150, {"records": st.lists(st.dictionaries(KEYS, JSON, max_size=5), min_size=1, max_size=3)}
        ),
        Property(any_lines, 100, {"records": st.lists(st.one_of(GOOD, GOOD, JSON), min_size=1, max_size=6)}),
        Property(
            any_texts,
            120,
            {"texts": st.lists(HARD, min_size=1, max_size=5), "unicode": st.sampled_from(["NFC", "NFKC", "off"])},
        ),
        Property(any_conversations, 80, {"said": st.lists(st.tuples(SPELLED, SPELLED), min_size=1, max_size=3)}),
    )
}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", PROPERTIES)
def test_quick(name: str) -> None:
    PROPERTIES[name].quick()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PROPERTIES)
def test_long(name: str) -> None:
    PROPERTIES[name].long()
