"""Records that are written read back as equal rows, whatever the format they came in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthier.core.catalog import names
from luthier.core.component import find
from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Source
from luthier.data.read import read
from luthier.data.write import record_of, write_records


@pytest.mark.parametrize("name", names("formats"))
def test_the_sample_of_every_format_comes_back(name: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(find("formats", name).sample) + "\n")
    (first,) = read([Source(path=str(file), format=name)]).examples
    again = tmp_path / "again.jsonl"
    write_records(again, [first])
    (second,) = read([Source(path=str(again))]).examples
    assert (second.id, second.parts, second.target) == (first.id, first.parts, first.target)


def row(**values: object) -> Example:
    return Example(id="a:1", origin=Origin("a", 1), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "example",
    [
        row(
            parts={
                "messages": (
                    Turn("system", "Be brief."),
                    Turn("user", "Weather?"),
                    Turn("assistant", "", extra={"tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}),
                    Turn("tool", "rain", extra={"tool_call_id": "1"}),
                    Turn("assistant", "Rain.", train=True),
                ),
                "tools": '[{"name": "now"}]',
            },
        ),
        row(parts={"messages": (Turn("user", "Who?"), Turn("assistant", "Ann"))}, target=("Ann", "Ann Lee")),
        row(parts={"messages": (Turn("user", "q"), Turn("assistant", "a", train=False), Turn("user", "r"),
                                Turn("assistant", "b"))}),
        row(parts={"text": "both"}, target=("x", "y")),
        row(parts={"prompt": (Turn("user", "q"),), "completion": (Turn("assistant", "a"),)}, target=-0.5),
        row(
            parts={
                "prompt": (Turn("system", "Be brief."), Turn("user", "q")),
                "chosen": (
                    Turn("assistant", "", extra={"tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}),
                    Turn("tool", "ten", extra={"tool_call_id": "1"}),
                    Turn("assistant", "Ten."),
                ),
                "rejected": (Turn("assistant", "a"),),
                "rejected_2": (Turn("assistant", "b", train=False),),
            },
            target=("2.5", "-1", "-1"),
        ),
        row(parts={"text": "ümlaut\u2028 and line"}, target="x"),
    ],
)  # fmt: skip
def test_what_a_row_holds_comes_back(example: Example, tmp_path: Path) -> None:
    write_records(tmp_path / "rows.jsonl", [example])
    (found,) = read([Source(path=str(tmp_path / "rows.jsonl"))]).examples
    assert (found.id, found.parts, found.target) == (example.id, example.parts, example.target)


def test_groups_are_columns_unless_a_part_has_the_name() -> None:
    record = record_of(row(parts={"text": "t"}, groups={"source": "web", "text": "other"}))
    assert record == {"source": "web", "id": "a:1", "text": "t"}


def test_references_that_are_no_list_are_told(tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "references": "a"}
    (tmp_path / "rows.jsonl").write_text((json.dumps({**record, "references": ["a"]}) + "\n") + json.dumps(record))
    found = read([Source(path=str(tmp_path / "rows.jsonl"))], bad_rows="quarantine")
    assert [bad.reason for bad in found.bad] == ["wrong type: references is 'a', not a list of answers"]
