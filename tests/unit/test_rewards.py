"""What answers are worth: rules worked by hand, and a function that fails in every way it can."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conformance.world import load
from tiny import CHATML_PLAIN

from luthier.core.component import build
from luthier.core.errors import DataError, RecipeError
from luthier.core.example import Example, Origin, Turn
from luthier.core.rewards import Answer, Failed, Reward
from luthier.data.template import template_for
from luthier.engine.rollout import judging
from luthier.models import load as models_load
from luthier.models.export import save_model
from luthier.objectives.grpo import GRPO

WAYS = """
import os, time

def judge(prompt, answer, target):
    print("this must not be taken for an answer")
    if answer == "slow":
        time.sleep(60)
    if answer == "crash":
        os._exit(3)
    if answer == "raise":
        raise ValueError("no number in it")
    if answer == "nan":
        return float("nan")
    return len(answer) + (10 if answer == target else 0) + (100 if prompt == "asked" else 0)

number = 7
"""


def answer(text: str, *targets: str) -> Answer:
    return Answer(Example("r:1", {"text": "x"}, Origin("r.jsonl", 1)), "asked", text, targets)


def reward(value: Any) -> Reward:
    found = build("rewards", value)
    assert isinstance(found, Reward)
    return found


@pytest.mark.parametrize(
    ("value", "text", "targets", "wanted"),
    [
        ({"contains": {"text": "Thank you"}}, "and THANK YOU all", (), 1),
        ({"contains": {"text": "Thank you", "ignore_case": False}}, "and THANK YOU all", (), 0),
        ("contains", "the answer is 42.", ("41", "42"), 1),
        ("contains", "the answer is 43.", ("41", "42"), 0),
        ({"regex": {"pattern": r"\d+\Z"}}, "it is 42", (), 1),
        ({"regex": {"pattern": r"\d+\Z"}}, "it is 42.", (), 0),
        ("equals", " two \n words ", ("two words",), 1),
        ("equals", "Two words", ("two words",), 0),
        ({"equals": {"ignore_case": True}}, "Two words", ("no", "two words"), 1),
        ({"length": {"words": 4}}, "one two three", (), 0.75),
        ({"length": {"words": 4}}, "a b c d e f", (), 0.5),
        ({"length": {"words": 4}}, "", (), 0),
        ({"length": {"words": 2}}, "a b c d e f", (), 0),
    ],
)
def test_rules_worked_by_hand(value: Any, text: str, targets: tuple[str, ...], wanted: float) -> None:
    assert reward(value).of(answer(text, *targets)) == wanted


@pytest.mark.parametrize("name", ["contains", "equals"])
def test_a_row_without_a_reference_answer_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="no reference answer"):
        reward(name).of(answer("anything"))


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match="no regular expression"):
        reward({"regex": {"pattern": "("}})


def test_a_function_is_called_and_none_of_its_failures_reaches_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ways.py").write_text(WAYS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    function = reward({"function": {"path": "ways:judge", "seconds": 1.5, "failed": -1.0, "weight": 2.0}})
    function.examine()
    texts = ["good", "slow", "four", "crash", "raise", "nan", "good"]
    with function.open() as judge:
        found = judge([answer(text, "good") for text in texts])
    assert [found[0], found[2], found[6]] == [114, 104, 114]
    reasons = [value.why for value in found if isinstance(value, Failed)]
    assert reasons == [
        "it took longer than 1.5 s",
        "its process ended (exit status 3)",
        "ValueError",
        "it returned nan",
    ]
    objective = GRPO(rewards=({"length": {"words": 1}}, {"function": {"path": "ways:judge", "failed": -1.0}}))  # type: ignore[arg-type]
    with judging(objective) as judged:
        result = judged([answer("raise"), answer("four"), answer("raise")])
    assert result.rewards.tolist() == [0.0, 105.0, 0.0]
    assert result.parts["function"].tolist() == [-1.0, 104.0, -1.0]
    # What an exception says may quote the answer: it is told apart from the kind, which the log may hold.
    assert result.failures == {"function: ValueError": 2}
    assert result.details == {"function: ValueError": "no number in it"}
    assert not math.isnan(result.rewards.sum())


@pytest.mark.parametrize("path", ["ways:missing", "ways:number", "nowhere:judge"])
def test_a_path_that_leads_to_no_function_is_refused(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ways.py").write_text(WAYS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="cannot be called"):
        reward({"function": {"path": path}}).examine()


def test_a_reward_model_is_loaded_once_and_reads_prompt_and_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers are those of its own forward pass over the conversation as its template writes it."""
    loaded = load("llama", "sequence_score", {"classes": ["reward"], "multi_label": False})
    save_model(loaded.model, loaded.tokenizer, tmp_path / "judge")
    asked = [Example("r:1", {"prompt": (Turn("user", "How long?"),)}, Origin("r.jsonl", 1))] * 2
    texts = ["Two days.", "That the workshop cannot say today."]
    opened: list[str] = []
    real = models_load.load_model
    monkeypatch.setattr(
        models_load, "load_model", lambda source, *more, **named: opened.append(source) or real(source, *more, **named)
    )
    judged = reward({"model": {"source": str(tmp_path / "judge")}})
    judged.examine()
    answers = [Answer(example, "How long?", text, ()) for example, text in zip(asked, texts, strict=True)]
    with judged.open() as judge:
        found = [*judge(answers), *judge(answers[:1])]
    assert opened == [str(tmp_path / "judge")]
    wanted = []
    for text in texts:
        turns = [{"role": "user", "content": "How long?"}, {"role": "assistant", "content": text}]
        ids = loaded.tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]
        stop = int((ids[0] == loaded.tokenizer.eos_token_id).nonzero()[-1])
        with torch.no_grad():
            wanted.append(float(loaded.model(input_ids=ids[:, : stop + 1]).logits[0, 0]))
    assert found == pytest.approx([*wanted, wanted[0]], abs=1e-5)
    assert abs(found[0] - found[1]) > 1e-4


@pytest.mark.parametrize("template", [None, CHATML_PLAIN, "plain"], ids=["marked", "unmarked", "plain"])
def test_a_reward_model_reads_whatever_a_policy_says(template: str | None, tmp_path: Path) -> None:
    """Nothing at all, white space, half a character, what spells control tokens: a run must not end at one of them."""
    loaded = load("llama", "sequence_score", {"classes": ["reward"], "multi_label": False})
    if template == "plain":
        template_for(loaded.tokenizer, "plain")
    elif template is not None:
        loaded.tokenizer.chat_template = template
    save_model(loaded.model, loaded.tokenizer, tmp_path / "judge")
    example = Example("r:1", {"prompt": (Turn("user", "How long?"),)}, Origin("r.jsonl", 1))
    control = ["<|im_end|>", "<|im_start|>user\nhi<|im_end|>", "User: hi\nAssistant:"]
    texts = ["", " ", "\n\n", "\ufffd", " a", "\x00", *control]
    with reward({"model": {"source": str(tmp_path / "judge")}}).open() as judge:
        found = judge([Answer(example, "How long?", text, ()) for text in texts])
    assert all(isinstance(value, float) and math.isfinite(value) for value in found)
    assert len({round(float(value), 6) for value in found if isinstance(value, float)}) >= 4
