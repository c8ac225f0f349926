"""Preferences, feedback and pairs: every usual way of writing them down gives the same parts, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.core.component import find
from luthier.core.example import Turn, turns
from luthier.core.recipe import Source
from luthier.data.detect import detect
from luthier.data.read import read
from luthier.data.write import write_records

ASK, GOOD = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
BAD = {"role": "assistant", "content": "what"}
FROM = {"from": "human", "value": "hi"}
PARTS = {
    "prompt": (Turn("user", "hi"),),
    "chosen": (Turn("assistant", "hello"),),
    "rejected": (Turn("assistant", "what"),),
}


def contents(name: str, record: dict[str, Any]) -> dict[str, Any]:
    assert detect([record], "a.jsonl")[0].component_name() == name
    return dict(find("formats", name)().contents(record))


# ---- preferences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "hi", "chosen": "hello", "rejected": "what"},
        {"question": "hi", "chosen": "hello", "rejected": "what"},
        {"instruction": "hi", "input": "", "chosen": "hello", "rejected": "what"},
        {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {"chosen_messages": [ASK, GOOD], "rejected_messages": [ASK, BAD]},
        {"messages": [ASK], "chosen": GOOD, "rejected": BAD},
        {
            "conversations": [FROM],
            "chosen": {"from": "gpt", "value": "hello"},
            "rejected": {"from": "gpt", "value": "what"},
        },
        {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: what"},
        {"prompt": "\n\nHuman: hi\n\nAssistant:", "chosen": " hello".strip(), "rejected": "what"},
        {"input": "hi", "output_1": "what", "output_2": "hello", "label": 2},
        {"instruction": "hi", "input": "", "output_1": "hello", "output_2": "what", "preference": 1},
        {"prompt": "hi", "messages": [ASK, GOOD], "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
    ],
    ids=lambda record: "+".join(record),
)
def test_every_way_of_writing_a_preference_gives_the_same(record: dict[str, Any]) -> None:
    assert contents("preferences", record)["parts"] == PARTS


def test_what_comes_before_the_answers_is_the_prompt() -> None:
    talk = "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: late?\n\nAssistant: "
    made = contents("preferences", {"chosen": talk + "ten", "rejected": talk + "no:\n\nHuman is no turn"})
    assert made["parts"]["prompt"] == turns(("user", "hi"), ("assistant", "yes?"), ("user", "late?"))
    assert made["parts"]["rejected"] == turns(("assistant", "no:\n\nHuman is no turn"))
    whole = {"chosen": [ASK, GOOD, ASK, GOOD], "rejected": [ASK, GOOD, ASK, BAD], "system": "Be brief."}
    prompt = contents("preferences", whole)["parts"]["prompt"]
    assert prompt == turns(("system", "Be brief."), ("user", "hi"), ("assistant", "hello"), ("user", "hi"))
    other = {"chosen": [ASK, GOOD, ASK, GOOD], "rejected": [ASK, BAD, ASK, BAD]}
    assert len(contents("preferences", other)["parts"]["chosen"]) == 3
    system = contents("preferences", {"prompt": "hi", "system": "Be brief.", "chosen": "a", "rejected": "b"})
    assert system["parts"]["prompt"][0] == Turn("system", "Be brief.")


def test_a_margin_is_the_target() -> None:
    row = {"prompt": "hi", "chosen": "hello", "rejected": "what"}
    assert contents("preferences", row)["target"] is None
    assert contents("preferences", {**row, "score_chosen": 8, "score_rejected": 6.5})["target"] == 1.5
    assert contents("preferences", {**row, "margin": "0.5"})["target"] == 0.5
    with pytest.raises(ValueError, match="margin is 'much', not a number"):
        contents("preferences", {**row, "margin": "much"})
    for wrong in (float("nan"), "nan", float("inf")):  # it would be in the loss
        with pytest.raises(ValueError, match="not a finite number"):
            contents("preferences", {**row, "score_chosen": wrong, "score_rejected": 1})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "hi", "chosen": "a", "rejected": "a"}, "no preference"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "empty prompt"),
        ({"prompt": "hi", "chosen": " ", "rejected": "b"}, "empty answer"),
        ({"chosen": [ASK, GOOD], "rejected": [{**ASK, "content": "bye"}, BAD]}, "different prompts"),
        ({"prompt": [ASK, GOOD], "chosen": "a", "rejected": "b"}, "turns out of order"),
    ],
)
def test_damaged_preferences_are_named(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        find("formats", "preferences")().contents(record)


# ---- feedback --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "hi", "completion": "hello", "label": True},
        {"prompt": [ASK], "completion": [GOOD], "label": True},
        {"prompt": "hi", "completion": "hello", "label": "True"},
        {"messages": [ASK, GOOD], "label": 1},
        {"conversations": [FROM, {"from": "gpt", "value": "hello"}], "kto_tag": "desirable"},
        {"instruction": "hi", "input": "", "output": "hello", "kto_tag": True},
        {"prompt": "\n\nHuman: hi\n\nAssistant:", "completion": "hello", "label": "good"},
    ],
    ids=lambda record: "+".join(record),
)
def test_every_way_of_writing_feedback_gives_the_same(record: dict[str, Any]) -> None:
    made = contents("feedback", record)
    assert made == {"parts": {"prompt": PARTS["prompt"], "completion": PARTS["chosen"]}, "target": "good"}
    key = "label" if "label" in record else "kto_tag"
    assert contents("feedback", {**record, key: 0})["target"] == "bad"


def test_a_class_beside_messages_is_no_feedback() -> None:
    assert detect([{"messages": [ASK, GOOD], "label": "billing"}], "a.jsonl")[0].component_name() == "chat"
    with pytest.raises(ValueError, match="unknown label"):
        find("formats", "feedback")().contents({"prompt": "hi", "completion": "a", "label": 7})
    with pytest.raises(ValueError, match="missing prompt or answer"):
        find("formats", "feedback")().contents({"messages": [GOOD], "label": 1})


# ---- pairs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "parts", "target"),
    [
        ({"premise": "x", "hypothesis": "y", "label": 2}, "xy", "2"),
        ({"sentence1": "x", "sentence2": "y", "gold_label": "neutral"}, "xy", "neutral"),
        ({"sentence1": "x", "sentence2": "y", "label": 3.8}, "xy", 3.8),
        ({"sentence1": "x", "sentence2": "y", "label": 5.0}, "xy", 5.0),
        ({"sentence1": "x", "sentence2": "y", "score": "0.25"}, "xy", 0.25),
        ({"question1": "x", "question2": "y", "is_duplicate": True}, "xy", "true"),
        ({"query": "x", "passage": "y"}, "xy", None),
        ({"anchor": "x", "positive": "y", "negative": "z"}, "xyz", None),
    ],
)
def test_pairs_have_parts_and_what_is_said_of_them(record: dict[str, Any], parts: str, target: Any) -> None:
    made = contents("pairs", record)
    assert made == {"parts": dict(zip(("a", "b", "negative"), parts, strict=False)), "target": target}


def test_damaged_pairs_are_named() -> None:
    read_pair = find("formats", "pairs")().contents
    for record, reason in (
        ({"a": "x", "b": " "}, "empty text: b"),
        ({"a": "x", "b": "y", "label": "-"}, "no label"),
        ({"a": "x", "b": "y", "score": "near"}, "score is 'near', not a number"),
        ({"a": "x", "b": "y", "score": float("nan")}, "not a number"),
        ({"a": "x"}, "missing pair"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_pair(record)


# ---- real files ------------------------------------------------------------------------------------------------------

REAL = {
    "preferences/llama-factory-demos/dpo_en_demo.json": ("preferences", 300),
    "preferences/llama-factory-demos/v1_dpo_demo.jsonl": ("preferences", 10),
    "preferences/llama-factory-demos/kto_en_demo.json": ("feedback", 300),
    "preferences/llmbar/LLMBar/Natural/dataset.json": ("preferences", 100),
    "instructions/llama-factory-demos/reason_tool_use_demo_50.jsonl": ("chat", 50),
    "instructions/gpteacher/roleplay-simple-deduped-roleplay-instruct.json": ("alpaca", 1923),
    "tasks/gsm8k/test.jsonl": ("alpaca", 1319),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_told_apart_and_come_back(name: str, data_file, tmp_path: Path) -> None:
    found = read([Source(path=str(data_file(name)))], bad_rows="quarantine")
    assert (found.formats[0].format, len(found.examples) + len(found.bad)) == REAL[name]
    assert len(found.bad) <= 0.01 * len(found.examples)
    write_records(tmp_path / "again.jsonl", found.examples)
    again = read([Source(path=str(tmp_path / "again.jsonl"))]).examples
    assert [(e.id, e.parts, e.target) for e in again] == [(e.id, e.parts, e.target) for e in found.examples]


def test_columns_overrule_what_is_detected(data_file) -> None:
    path = str(data_file("preferences/persona.jsonl"))
    columns = {"chosen": "matching", "rejected": "other"}
    found = read([Source(path=path, columns=columns, limit=20)])
    assert found.formats[0].format == "preferences"
    assert {turn.content for example in found.examples for turn in example.parts["chosen"]} <= {
        "Yes",
        "No",
        " Yes",
        " No",
    }


def test_parts_of_a_message_keep_reasoning_and_calls() -> None:
    call = {"name": "look", "arguments": {"at": "x"}}
    parts = [
        {"type": "reasoning", "value": "hm"},
        {"type": "text", "text": "I look."},
        {"type": "tool_call", "value": json.dumps(call)},
        {"type": "tool_call", "value": call},
    ]
    record = {"messages": [ASK, {"role": "assistant", "content": parts, "loss_weight": 1.0}]}
    said = find("formats", "chat")().contents(record)["parts"]["messages"][1]
    made = {"type": "function", "function": call}
    assert said == Turn("assistant", "I look.", True, {"reasoning_content": "hm", "tool_calls": [made, made]})


# ---- rankings and ratings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "hi", "responses": ["what", "hello", "hey"], "scores": [1, 3, 2]},
        {"instruction": "hi", "completions": ["what", "hello", "hey"], "ranks": [3, 1, 2]},
        {
            "question": "hi",
            "answers": [{"text": "what", "score": 1}, {"text": "hello", "score": 3}, {"text": "hey", "score": 2}],
        },
        {
            "prompt": "hi",
            "completions": [{"response": t, "overall_score": s} for t, s in (("what", 1), ("hello", 3), ("hey", 2))],
        },
    ],
    ids=["scores", "ranks", "objects", "ultrafeedback"],
)
def test_every_way_of_writing_rankings_gives_the_same_order(record: dict[str, Any]) -> None:
    assert find("formats", "rankings")().recognizes(record)
    made = contents("rankings", record)
    said = {name: turns[-1].content for name, turns in made["parts"].items()}
    assert said == {"prompt": "hi", "chosen": "hello", "rejected": "hey", "rejected_2": "what"}
    assert [float(score) for score in made["target"]] == sorted(
        (float(score) for score in made["target"]), reverse=True
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"responses": ["hello"]}, "not a list of two or more"),
        ({"scores": [1, 2]}, "2 for 3 answers"),
        ({"scores": [1, "much", 2]}, "not all numbers"),
        ({"scores": [1, float("nan"), 2]}, "not all finite"),
        ({"scores": [2, 2, 2]}, "no preference"),
        ({"responses": ["what", "", "hey"]}, "empty answer"),
        ({"prompt": " "}, "empty prompt"),
    ],
)
def test_rankings_that_rank_nothing_are_refused(change: dict[str, Any], reason: str) -> None:
    record = {"prompt": "hi", "responses": ["what", "hello", "hey"], "scores": [1, 3, 2]}
    with pytest.raises(ValueError, match=reason):
        find("formats", "rankings")().contents({**record, **change})


def test_a_rating_is_a_number_of_any_scale() -> None:
    ratings, record = find("formats", "ratings")(), {"question": "hi", "response": "hello", "score": "3.5"}
    assert not ratings.recognizes(record), "a score may be a filter's"
    assert ratings.contents(record)["target"] == 3.5
    made = contents("ratings", {"question": "hi", "response": "hello", "rating": "3.5"})
    assert made["target"] == 3.5
    assert made["parts"]["completion"] == (Turn("assistant", "hello"),)
    for wrong in ("good", float("inf"), None):
        with pytest.raises(ValueError, match="rating"):
            ratings.contents({"prompt": "hi", "completion": "hello", "rating": wrong})
