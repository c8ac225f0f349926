"""Rows to Argilla and Label Studio, and their answers back, in the forms that the tools write."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from luthier.cli.main import main
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin, Turn
from luthier.data.annotation import decisions_of, export, labeling_config
from luthier.data.review import Decision, digest_of, read_decisions

ROWS = [
    Example("a", {"text": "hello"}, Origin("r", 1), target="greeting & co"),
    Example("b", {"text": "bye"}, Origin("r", 2), target="farewell"),
    Example("c", {"messages": (Turn("user", "Who?"), Turn("assistant", "Ann."))}, Origin("r", 3)),
]


def choice(name: str, value: str) -> dict[str, object]:
    return {"from_name": name, "to_name": "text", "type": "choices", "value": {"choices": [value]}}


def test_label_studio_and_back() -> None:
    tasks = export(ROWS, "label-studio")
    assert tasks[2]["data"]["text"] == "user: Who?\n\nassistant: Ann."
    why = {"from_name": "reason", "to_name": "text", "type": "textarea", "value": {"text": ["rude"]}}
    people = [{"id": 7, "email": "ann@example.com"}, 12]
    tasks[0]["annotations"] = [
        {"completed_by": people[0], "result": [choice("decision", "drop"), why]},
        {"completed_by": people[1], "result": [choice("decision", "keep"), choice("label", "greeting & co")]},
        {"completed_by": people[1], "was_cancelled": True, "result": [choice("decision", "drop")]},
    ]
    tasks[1]["annotations"] = [{"completed_by": 12, "result": [choice("decision", "keep"), choice("label", "other")]}]
    assert decisions_of(json.dumps(tasks), "x") == [
        Decision("a", "ann@example.com", "drop", digest=digest_of(ROWS[0]), reason="rude"),
        Decision("a", "12", "keep", digest=digest_of(ROWS[0])),
        Decision("b", "12", "relabel", digest=digest_of(ROWS[1]), target="other"),
    ]


def test_the_labeling_configuration_is_xml_that_asks_for_these_names() -> None:
    root = ElementTree.fromstring(labeling_config(ROWS))
    asked = {found.get("name"): [one.get("value") for one in found] for found in root.iter("Choices")}
    assert asked == {"decision": ["keep", "drop"], "label": ["farewell", "greeting & co"]}
    assert all(found.get("toName") == "text" for found in root.iter("Choices"))
    assert [found.get("name") for found in ElementTree.fromstring(labeling_config(ROWS[2:])).iter("Choices")] == [
        "decision"
    ]


def test_argilla_and_back() -> None:
    records = export(ROWS, "argilla")
    assert records[0]["suggestions"] == {"label": {"value": "greeting & co"}}
    records[0]["responses"] = {
        "decision": [{"value": "keep", "user_id": "u1"}, {"value": "drop", "user_id": "u2"}],
        "reason": [{"value": "rude", "user_id": "u2"}],
    }
    records[1]["responses"] = {"label": [{"value": "other", "user_id": "u1"}]}
    assert decisions_of(json.dumps(records), "x") == [
        Decision("a", "u1", "keep", digest=digest_of(ROWS[0])),
        Decision("a", "u2", "drop", digest=digest_of(ROWS[0]), reason="rude"),
        Decision("b", "u1", "relabel", digest=digest_of(ROWS[1]), target="other"),
    ]


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"data": {}, "annotations": [{"result": []}]}]', "no json"])
def test_what_neither_tool_writes_is_told(content: str) -> None:
    with pytest.raises(DataError, match="no answers of Argilla or Label Studio"):
        decisions_of(content, "file.json")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"id": "a", "text": "hello", "label": "x"}\n')
    main(["data", "export", "rows.jsonl", "--to", "label-studio", "--out", "tasks.json"])
    assert Path("tasks.xml").is_file()
    tasks = json.loads(Path("tasks.json").read_text())
    tasks[0]["annotations"] = [{"completed_by": 1, "result": [choice("decision", "drop")]}]
    Path("tasks.json").write_text(json.dumps(tasks))
    for _ in range(2):
        main(["data", "import", "tasks.json"])
    assert [each.action for each in read_decisions(Path("decisions.jsonl"))] == ["drop"]
    assert "0 new decisions" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "export", "rows.jsonl", "--to", "prodigy", "--out", "tasks.json"])
    assert "--to argilla or --to label-studio" in capsys.readouterr().err
