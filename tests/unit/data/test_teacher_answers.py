"""Answers of a teacher take the place of the rows' own, where they are lessons; other rows are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import make_llama, make_tokenizer

from luthier.core.component import build
from luthier.core.contracts import Step, StepContext
from luthier.core.example import Example, Origin, Turn
from luthier.data.ledger import Ledger
from luthier.data.steps import teacher_answers
from luthier.models import generate

SAID = {"a": ("It is a fine old violin.", True), "b": ("", True), "c": ("And on and", False), "d": ("No idea.", True)}


def chat(name: str) -> Example:
    turns = (Turn("system", "Be kind."), Turn("user", name), Turn("assistant", "It is an old violin."))
    return Example(name, {"messages": turns}, Origin("rows.jsonl", 1))


def run(given: Sequence[Example], **parameters: object) -> tuple[list[Example], list[str]]:
    ledger = Ledger()
    step = build("steps", {"teacher_answers": parameters})
    assert isinstance(step, Step)
    found = list(step.run(given, StepContext("train", 1, ledger.page("train", "teacher_answers"))))
    return found, [entry.reason for entry in ledger.entries]


def test_only_lessons_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def answering(examples: Sequence[Example], seeds: Sequence[int]) -> list[tuple[str, bool]]:
        return [SAID[example.id] for example in examples]

    monkeypatch.setattr(teacher_answers, "_answerer", lambda *given: answering)
    text = Example("t", {"text": "A text."}, Origin("rows.jsonl", 9))
    found, reasons = run([chat("a"), text, chat("b"), chat("c"), chat("d")], model="x", like=0.5)
    assert [row.id for row in found] == ["a", "t"]
    assert found[0].parts["messages"][-1] == Turn("assistant", "It is a fine old violin.")
    assert found[0].parts["messages"][:2] == chat("a").parts["messages"][:2]
    assert found[0].origin.synthetic
    assert found[1] == text
    assert [reason.partition(" after")[0] for reason in reasons] == [
        "answered by the teacher",
        "the teacher gave no answer",
        "the teacher's answer had not ended",
        "the teacher's answer is too far from the row's own",
    ]
    assert [row.id for row in run([chat("d")], model="x")[0]] == ["d"], "by default the own answer is not asked for"


def test_a_model_answers_the_same_whatever_it_is_asked_with(llama_folder: Path) -> None:
    ask = teacher_answers._answerer(str(llama_folder), 0.0, 1.0, 6)
    rows = [chat("Where is it?"), chat("Who sang to the moon, and why?")]
    both = ask(rows, [1, 2])
    assert [ask([row], [seed])[0] for row, seed in zip(rows, (1, 2), strict=True)] == both
    assert not all(ended for _, ended in both), "six tokens are too few"


def test_an_answer_that_fills_the_models_positions_has_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 new tokens are allowed, and the prompt leaves fewer: an answer that stops there was cut."""
    make_llama(max_position_embeddings=96).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    plain, lengths = generate.generate, list[int]()

    def heard(*given: Any, **more: Any) -> list[list[int]]:
        found = plain(*given, **more)
        lengths.extend(map(len, found))
        return found

    monkeypatch.setattr(generate, "generate", heard)
    ask = teacher_answers._answerer(str(tmp_path), 0.0, 1.0, 80)
    told = ask([chat("Where is it?"), chat("Who sang to the moon, and why? " * 4)], [1, 2])
    assert all(48 <= length < 80 for length in lengths), "none came to a stop token"
    assert not any(ended for _, ended in told)


def test_rows_that_are_no_conversations_need_no_teacher() -> None:
    text = Example("t", {"text": "A text."}, Origin("rows.jsonl", 9))
    assert run([text], model="there is none") == ([text], [])
