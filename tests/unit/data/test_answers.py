"""Answers that are passages, and tasks with instances: flat rows and nested files, whatever is damaged in them told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.core.component import build, find
from luthier.core.recipe import Source
from luthier.data.read import Read, read
from luthier.data.write import write_records

CONTEXT = "Ann met Bo. Then Ann left."
QUESTION = {"id": "q1", "question": "Who left?", "answers": [{"text": "Ann", "answer_start": 17}]}
TASK = {
    "Categories": ["Antonyms"],
    "Definition": ["Say the opposite."],
    "Positive Examples": [
        {"input": "big", "output": "small", "explanation": ""},
        {"input": "day", "output": "night", "explanation": ""},
        {"input": "hot", "output": "cold", "explanation": ""},
    ],
    "Instances": [
        {"id": "task7-a", "input": "big", "output": ["small", "little"]},
        {"id": "task7-b", "input": "wet", "output": ["dry"]},
    ],
}


def one(path: Path, value: Any, **source: Any) -> Read:
    path.write_text(json.dumps(value))
    return read([Source.model_validate({"path": str(path), **source})], bad_rows="quarantine")


def nested(*paragraphs: Any) -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": "Two", "paragraphs": list(paragraphs)}]}


def spans(answers: Any, **more: Any) -> dict[str, Any]:
    return dict(find("formats", "spans")().contents({"question": "q", "context": CONTEXT, "answers": answers, **more}))


# ---- passages --------------------------------------------------------------------------------------------------------


def test_every_question_of_a_nested_file_is_a_row(tmp_path: Path) -> None:
    value = nested({"context": CONTEXT, "qas": [QUESTION, {**QUESTION, "id": "q2"}]}, {"context": "Bo", "qas": []})
    found = one(tmp_path / "squad.json", value, columns={"subject": "title"})
    assert [(example.id, example.origin.row) for example in found.examples] == [("q1", 1), ("q2", 2)]
    assert found.examples[0].parts == {"question": "Who left?", "context": CONTEXT}
    assert (found.examples[0].target, found.examples[0].groups) == (("Ann",), {"answer_starts": "17"})
    assert (found.formats[0].format, found.files[0].rows) == ("spans", 2)


def test_what_is_damaged_in_a_nested_file_stays_a_row_of_its_own(tmp_path: Path) -> None:
    value = nested(
        {"context": CONTEXT, "qas": [QUESTION, "who?"]}, {"context": CONTEXT}, "paragraph", {"qas": [QUESTION]}
    )
    found = one(tmp_path / "squad.json", value)
    assert len(found.examples) == 1
    assert [(bad.row, bad.reason) for bad in found.bad] == [
        (2, "missing answers"),
        (3, "missing question"),
        (4, "missing question"),
        (5, "missing context"),
    ]


def test_answers_are_where_they_start_or_at_the_nearest_place() -> None:
    assert spans([{"text": "Ann", "answer_start": 17}])["groups"] == {"answer_starts": "17"}
    assert spans([{"text": "Ann", "answer_start": 13}])["groups"] == {"answer_starts": "17"}
    assert spans([{"text": "Ann", "answer_start": 3}])["groups"] == {"answer_starts": "0"}
    several = spans({"text": ["Ann", "Bo", "Ann"], "answer_start": [0, 8, 0]})
    assert (several["target"], several["groups"]) == (("Ann", "Bo"), {"answer_starts": "0 8"})
    with pytest.raises(ValueError, match="answer not in the context"):
        spans([{"text": "Cy", "answer_start": 0}])


def test_a_question_may_have_no_answer() -> None:
    for found in (spans({"text": [], "answer_start": []}), spans(None, is_impossible=True), spans([])):
        assert found["target"] == ()
        assert "groups" not in found


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("Ann", "wrong type: answers is 'Ann', not a list"),
        ({"text": ["Ann"], "answer_start": []}, "of one length"),
        ([{"text": "Ann"}], "answer 1 starts at None"),
        (["Ann"], "missing text of answer 1"),
        ([{"text": " ", "answer_start": 0}], "empty answer"),
    ],
)
def test_damaged_answers_are_named(answers: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        spans(answers)


def test_real_questions_come_back_as_they_were_written(data_file, tmp_path: Path) -> None:
    first = read([Source(path=str(data_file("tasks/xquad/xquad.de.json")))]).examples
    assert len(first) == 1190
    write_records(tmp_path / "flat.jsonl", first)
    second = read([Source(path=str(tmp_path / "flat.jsonl"))]).examples
    assert [(e.id, e.parts, e.target, e.groups) for e in second] == [(e.id, e.parts, e.target, e.groups) for e in first]
    for example in first:
        starts = [int(start) for start in example.groups["answer_starts"].split()]
        context = str(example.parts["context"])
        assert all(context.startswith(text, start) for text, start in zip(example.target, starts, strict=True))


# ---- tasks -----------------------------------------------------------------------------------------------------------


def test_every_instance_of_a_task_file_is_a_row(tmp_path: Path) -> None:
    found = one(tmp_path / "task7.json", TASK)
    first, second = found.examples
    assert (first.id, first.target, first.groups) == (
        "task7-a",
        ("small", "little"),
        {"task": "task7", "category": "Antonyms"},
    )
    asked, answered = first.parts["messages"]
    # The row itself stands among the examples: it is not shown.
    assert asked.content == (
        "Say the opposite.\n\nInput: day\nOutput: night\n\nInput: hot\nOutput: cold\n\nInput: big\nOutput:"
    )
    assert answered.content == "small"
    assert "Input: big\nOutput: small\n\nInput: day\nOutput: night\n\nInput: wet" in second.parts["messages"][0].content
    keys = "Categories, Definition, Positive Examples, Instances"
    assert found.formats[0].because == f"the file is one object that holds many rows; it has the keys {keys}"


def test_examples_are_shown_as_often_as_asked(tmp_path: Path) -> None:
    found = one(tmp_path / "task7.json", TASK, format={"natural_instructions": {"shown": 0}})
    assert [example.parts["messages"][0].content for example in found.examples] == [
        "Say the opposite.\n\nbig",
        "Say the opposite.\n\nwet",
    ]


def test_flat_rows_of_tasks_are_read_too() -> None:
    record = {"task_name": "task8", "id": "1", "definition": "Count.", "inputs": "a b", "targets": "2"}
    made = build("formats", "natural_instructions").contents(record)
    assert [turn.content for turn in made["parts"]["messages"]] == ["Count.\n\na b", "2"]
    assert made["groups"] == {"task": "task8"}


def test_damaged_instances_are_named(tmp_path: Path) -> None:
    instances = [
        *TASK["Instances"],
        "wet",
        {"id": "task7-c", "input": "low", "output": []},
        {"input": " ", "output": "x"},
    ]
    found = one(tmp_path / "task7.json", {**TASK, "Instances": instances})
    assert [(bad.row, bad.reason) for bad in found.bad] == [
        (3, "missing input"),
        (4, "missing output"),
        (5, "empty input: input says nothing"),
    ]


def test_one_row_that_is_no_nested_file_keeps_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n\n{"text": "alone"}\n')
    assert read([Source(path=str(tmp_path / "a.jsonl"))]).examples[0].origin.row == 3
