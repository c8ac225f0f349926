"""What each format makes of a record, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from luthier.core.component import find, names
from luthier.core.example import Turn
from luthier.data.detect import detect

ASK, TELL = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
RECORDS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [ASK, TELL]},
    "alpaca": {"instruction": "say hi", "input": "", "output": "hi"},
    "sharegpt": {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    "text": {"text": "hello"},
    "labeled": {"text": "hello", "label": "greeting"},
    "scored": {"text": "hello", "score": 4.5},
    "spans": {"question": "who?", "context": "Ann", "answers": [{"text": "Ann", "answer_start": 0}]},
    "natural_instructions": {"Definition": "Say hi.", "input": "Ann", "output": ["hi"]},
    "preferences": {"prompt": "hi", "chosen": "hello", "rejected": "what"},
    "feedback": {"prompt": "hi", "completion": "hello", "label": True},
    "prompts": {"prompt": "hi"},
    "ratings": {"prompt": "hi", "completion": "hello", "rating": 4},
    "rankings": {"prompt": "hi", "responses": ["what", "hello"], "scores": [1, 2]},
    "pairs": {"premise": "Ann sleeps", "hypothesis": "Ann rests", "label": "entailment"},
    "tags": {"tokens": ["hello", "Ann"], "tags": ["O", "B-PER"]},
}


def contents(name: str, record: dict[str, Any]) -> dict[str, Any]:
    return dict(find("formats", name)().contents(record))


def test_each_format_recognizes_its_own() -> None:
    assert set(RECORDS) == set(names("formats"))
    for name in RECORDS:
        recognized = {other for other, record in RECORDS.items() if find("formats", name)().recognizes(record)}
        assert recognized == {name} | {"text": {"labeled", "scored"}, "alpaca": {"feedback", "ratings"}}.get(
            name, set()
        )
        assert detect([RECORDS[name]], "a.jsonl")[0].component_name() == name


@pytest.mark.parametrize("name", names("formats"))
def test_a_sample_is_told_by_its_keys(name: str) -> None:
    assert detect([find("formats", name).sample], "a.jsonl")[0].component_name() == name


def test_chat_keeps_what_the_template_needs() -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {}}}
    parts = contents(
        "chat",
        {
            "messages": [
                {"role": "system", "content": ""},
                ASK,
                {"role": "assistant", "content": None, "tool_calls": [call], "name": None},
                {"role": "tool", "content": "", "tool_call_id": "1"},
                {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}]},
                {**ASK, "train": True},
                {**TELL, "weight": 0},
            ],
            "tools": [{"name": "look"}],
        },
    )["parts"]
    assert parts["messages"] == (
        Turn("system", ""),
        Turn("user", "hi"),
        Turn("assistant", "", None, {"tool_calls": [call]}),
        Turn("tool", "", None, {"tool_call_id": "1"}),
        Turn("assistant", "ab"),
        Turn("user", "hi", True),
        Turn("assistant", "hello", False),
    )
    assert parts["tools"] == '[{"name": "look"}]'


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": [{**TELL, "weight": 0.5}]}, "to be trained 0.5"),
        ({"messages": [ASK, {**TELL, "train": False}]}, "nothing to learn"),
        ({"messages": [ASK, ASK, TELL]}, r"turns out of order: turn 2 \(user\) comes after user"),
        ({"messages": [ASK, TELL, TELL]}, r"turns out of order: turn 3 \(assistant\) comes after assistant"),
        ({"messages": [ASK, TELL, {"role": "system", "content": "x"}]}, "turn 3"),
        ({"messages": [ASK, {"role": "tool", "content": "x"}, TELL]}, r"turn 2 \(tool\) comes after user"),
        ({"messages": [ASK, {"role": "assistant", "content": [{"type": "image"}]}]}, "part of type 'image'"),
        ({"messages": [ASK, TELL], "tools": "{"}, "damaged tools"),
        ({"messages": [ASK, TELL], "tools": 5}, "tools is a number"),
        ({"messages": [ASK, TELL], "tools": ["x"]}, "not a list of objects"),
        ({"messages": [ASK, "hello"]}, "turn 2 is no object"),
    ],
)
def test_chat_refuses(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        contents("chat", record)


def test_alpaca_prompt_system_and_history() -> None:
    record = {"instruction": "Add.", "input": "1, 2", "output": "3", "system": "Be brief.", "history": [["a", "b"]]}
    assert contents("alpaca", record)["parts"]["messages"] == (
        Turn("system", "Be brief."),
        Turn("user", "a"),
        Turn("assistant", "b"),
        Turn("user", "Add.\n\n1, 2"),
        Turn("assistant", "3"),
    )
    assert (
        contents("alpaca", {"instruction": "Add.", "input": None, "output": "3"})["parts"]["messages"][0].content
        == "Add."
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"instruction": " "}, "empty prompt"),
        ({"instruction": None}, "missing instruction"),
        ({"output": ""}, "empty answer"),
        ({"output": []}, "missing output"),
        ({"output": ["", " "]}, "missing output"),
        ({"output": [3]}, "an answer in output is a number"),
        ({"output": 3}, "output is a number"),
        ({"history": [["a"]]}, "item 1 of history"),
    ],
)
def test_alpaca_refuses(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        contents("alpaca", RECORDS["alpaca"] | changes)


def test_sharegpt_calls_and_observations() -> None:
    turns = [
        ("human", "dice?"),
        ("function_call", '{"name": "roll", "arguments": {"sides": 6}}'),
        ("observation", "4"),
        ("gpt", "Four."),
    ]
    record = {"conversations": [{"from": who, "value": what} for who, what in turns], "system": "Roll.", "tools": "[]"}
    call = {"type": "function", "function": {"name": "roll", "arguments": {"sides": 6}}}
    assert contents("sharegpt", record)["parts"] == {
        "messages": (
            Turn("system", "Roll."),
            Turn("user", "dice?"),
            Turn("assistant", "", None, {"tool_calls": [call]}),
            Turn("tool", "4"),
            Turn("assistant", "Four."),
        )
    }
    record["conversations"][1]["value"] = "roll!"
    with pytest.raises(ValueError, match="damaged call: turn 2 is not valid JSON"):
        contents("sharegpt", record)
    record["conversations"][1]["value"] = "[{}]"
    with pytest.raises(ValueError, match="damaged call: turn 2 names no function"):
        contents("sharegpt", record)
    record["conversations"][1]["from"] = "elf"
    with pytest.raises(ValueError, match="unknown role: turn 2 is from 'elf'"):
        contents("sharegpt", record)


@pytest.mark.parametrize(
    ("key", "value", "target"),
    [
        ("label", "a", "a"),
        ("labels", ["a", 2, "a"], ("a", "2")),
        ("labels", [], ()),
        ("category", 3, "3"),
        ("intent", 3.0, "3"),
        ("label", True, "true"),
        ("label", 0, "0"),
    ],
)
def test_labels_become_names(key: str, value: Any, target: object) -> None:
    assert contents("labeled", {"text": "x", key: value}) == {"parts": {"text": "x"}, "target": target}


@pytest.mark.parametrize("value", [None, "", 0.5, {"a": 1}, float("nan")])
def test_labels_that_are_none(value: Any) -> None:
    with pytest.raises(ValueError, match=r"missing label|not a class"):
        contents("labeled", {"text": "x", "label": value})


def test_text_takes_the_only_column() -> None:
    recognizes = find("formats", "text")().recognizes
    assert contents("text", {"id": 4, "sentence": "One."})["parts"] == {"text": "One."}
    assert recognizes({"title": "t", "text": "x"})
    assert not recognizes({"title": "t", "body": "x"})
    assert not recognizes({"n": 4})
    assert not recognizes({"prompt": "What is it?"})
    assert contents("text", {"prompt": "What is it?"})["parts"] == {"text": "What is it?"}


def test_prompts_have_no_answer() -> None:
    asked = (Turn("user", "hi"),)
    assert contents("prompts", {"prompt": "hi"}) == {"parts": {"prompt": asked}}
    assert contents("prompts", {"prompt": [ASK], "solution": "4"})["parts"]["prompt"] == asked
    assert contents("prompts", {"messages": [ASK]})["parts"]["prompt"] == asked
    assert contents("prompts", {"prompt": [ASK, TELL, ASK]})["parts"]["prompt"][1] == Turn("assistant", "hello")
    assert detect([{"id": 1, "prompt": [ASK]}], "a.jsonl")[0].component_name() == "prompts"
    assert not find("formats", "prompts")().recognizes({"prompt": "hi", "solution": "4"})
    for record, reason in [
        ({"prompt": [ASK, TELL]}, "ends with an answer"),
        ({"prompt": " "}, "empty prompt"),
        ({"prompt": []}, "missing prompt"),
        ({"prompt": [ASK, ASK]}, "turns out of order"),
    ]:
        with pytest.raises(ValueError, match=reason):
            contents("prompts", record)


def test_tags_that_do_not_fit_their_tokens_are_told_as_such() -> None:
    record = {"tokens": ["hello", "Ann"], "ner_tags": ["O"]}
    assert detect([record], "a.jsonl")[0].component_name() == "tags"
    with pytest.raises(ValueError, match="tags do not fit: 1 in ner_tags for 2 tokens"):
        contents("tags", record)
