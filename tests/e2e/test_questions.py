"""Question answering and tagging from the data file to what `luthier generate` prints."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import THINGS, lm_recipe
from tiny import make_tokenizer
from transformers import AutoModelForQuestionAnswering, BertConfig, BertForTokenClassification

import luthier
from luthier.cli.main import main
from luthier.core.evidence import Finding


def generated(capsys: pytest.CaptureFixture[str], *arguments: str, command: str = "generate") -> Any:
    capsys.readouterr()
    with suppress(SystemExit):
        main([command, *arguments])
    said = capsys.readouterr()
    return json.loads(said.out) if said.out.strip() else said.err


def questions(path: Path, count: int = 60) -> Path:
    """Passages of which windows hold a part, and whose answer stands behind a sign of its own; each fifth has none."""
    rows = []
    for number in range(count):
        thing, draw = THINGS[number % len(THINGS)], np.random.default_rng(number)
        before = " ".join(["night"] * int(draw.integers(1, 30)))
        after = " ".join(["moon"] * int(draw.integers(1, 30)))
        context = f"{before} => {thing} <= {after}" if number % 5 else f"{before} {after}"
        answers = (
            {"text": [thing], "answer_start": [len(before) + 4]} if number % 5 else {"text": [], "answer_start": []}
        )
        rows.append({"question": "Which?", "context": context, "answers": answers, "is_impossible": not number % 5})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def of(found: tuple[Finding, ...] | list[Finding], metric: str, subject: str, group: str | None = None) -> Finding:
    return next(one for one in found if (one.metric, one.subject, one.group) == (metric, subject, group))


def test_answers_are_found_in_windows(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = lm_recipe(
        bert_folder,
        questions(tmp_path / "rows.jsonl"),
        objective={"span": {"stride": 16, "longest": 8}},
        adaptation="full",
        checks=["question_answering", "parity"],
        epochs=10,
        max_length=48,
        optimizer={"adamw": {"lr": 5e-3}},
    )
    run = luthier.run(recipe, out=tmp_path / "run")
    base, tuned = (of(run.findings, "f1", subject) for subject in ("base", "tuned"))
    assert tuned.value > max(0.8, base.value)
    assert "only the head trained" in (base.note or "")
    assert of(run.findings, "exact", "tuned", "unanswerable").value > 0.5
    assert of(run.findings, "max_difference", "reloaded").value < 1e-4
    _, info = AutoModelForQuestionAnswering.from_pretrained(run.model, output_loading_info=True)
    assert not info["missing_keys"]
    card = (run.folder / "README.md").read_text()
    assert "question-answering" in card
    assert "AutoModelForQuestionAnswering" in card

    folder, passage = str(run.folder), "night night night => viola <= moon moon"
    found = generated(capsys, folder, "Which?", "--context", passage)
    assert found == {"answer": "viola", "start": 21, "end": 26}
    file = tmp_path / "passage.txt"
    file.write_text("night night moon moon moon", encoding="utf-8")
    assert generated(capsys, folder, "Which?", "--context", str(file)) == {"answer": None}
    assert "passage that holds its answer" in generated(capsys, folder, "Which?")
    monkeypatch.setattr("sys.stdin", io.StringIO(passage))
    assert generated(capsys, folder, "Which?", "--context", "-") == found
    file.write_bytes(b"night \xff")
    assert "the passage cannot be read" in generated(capsys, folder, "Which?", "--context", str(file))
    file.write_bytes(b" ")
    assert "the passage is empty" in generated(capsys, folder, "Which?", "--context", str(file))
    assert "are both standard input" in generated(capsys, folder, "-", "--context", "-")
    assert "takes more than half of max_length" in generated(capsys, folder, "why " * 200, "--context", passage)
    told = generated(capsys, folder, "Which?", "--context", passage, "--max-new-tokens", "4")
    assert "--max-new-tokens is read by nothing" in told
    said = generated(capsys, folder, command="chat")
    assert "finds answers in a passage and writes no text" in said
    assert "--context PASSAGE" in said


def test_a_tagger_prints_spans(bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By logistic regression on each word's features, which loads from its folder as any tagger."""
    lines = []
    for number in range(60):
        thing = THINGS[number % len(THINGS)]
        new = ["new B-THING", f"{thing} I-THING"] if number % 2 else [f"{thing} B-THING"]
        lines += ["The O", *new, "sang O", f"{number} O", ""]
    data = tmp_path / "things.conll"
    data.write_text("\n".join(lines), encoding="utf-8")
    recipe = lm_recipe(
        bert_folder, data, objective="tag", adaptation={"classic": {"c": 100.0}}, checks=["tagging", "parity"]
    )
    del recipe["phases"][0]["epochs"], recipe["phases"][0]["optimizer"]
    run = luthier.run(recipe, out=tmp_path / "run")
    assert of(run.findings, "f1", "tuned").value > 0.8
    assert of(run.findings, "max_difference", "reloaded").value == 0.0
    found = generated(capsys, str(run.folder), "The  new viola sang 7")
    assert found == [{"kind": "THING", "text": "new viola", "start": 5, "end": 14}]
    assert "reads no passage" in generated(capsys, str(run.folder), "The viola", "--context", "night")
    assert "marks parts of a text and writes no text" in generated(capsys, str(run.folder), command="chat")


def test_a_tagger_whose_spans_open_with_i_is_read_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """IOB1, as in a well-known tagger of CoNLL-2003: no two people stand side by side there, so B-PER is no tag."""
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    labels = dict(enumerate(["O", "B-LOC", "I-LOC", "I-PER"]))
    config = BertConfig(vocab_size=400, num_attention_heads=4, pad_token_id=0, id2label=labels, **sizes)
    model = BertForTokenClassification(config).eval()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 5.0]))
    model.save_pretrained(tmp_path)
    make_tokenizer(template=None).save_pretrained(tmp_path)
    found = generated(capsys, str(tmp_path), "Ada Lovelace")
    assert found == [{"kind": "PER", "text": "Ada Lovelace", "start": 0, "end": 12}]
