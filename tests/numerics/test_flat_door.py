"""The flat script and the engine are the same fine-tuning: losses over ten steps, in float32, on the same order."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import chat_records
from tiny import CHATML_MARKED, CHATML_PLAIN, make_llama, make_tokenizer

from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Phase
from luthier.data.encode import Encoding
from luthier.engine.fit import Fit, fit
from luthier.models.roles import Models, role_of

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import flat_sft

STEPS = 10


def records() -> list[dict[str, Any]]:
    """Rows of uneven length, some with two answers."""
    found = chat_records(14)
    for number, record in enumerate(found):
        if number % 3 == 0:
            more = [{"role": "user", "content": "And then? " * number}, {"role": "assistant", "content": "Nothing."}]
            record["messages"] = record["messages"] + more
    return found


def encoded(tokenizer: Any, phase: Phase) -> list[Any]:
    encoding = Encoding(tokenizer, max_length=400, overlong="error", facts={}, chat_template=None)
    rows = []
    for number, record in enumerate(records()):
        turns = tuple(Turn(turn["role"], turn["content"]) for turn in record["messages"])
        example = Example(f"row-{number}", {"messages": turns}, Origin("rows.jsonl", number + 1))
        rows.extend(phase.objective.encode(example, encoding))
    return rows


@pytest.mark.parametrize("template", [CHATML_MARKED, CHATML_PLAIN], ids=["marked", "plain"])
def test_losses_and_adapters_are_those_of_the_engine(template: str) -> None:
    tokenizer = make_tokenizer(template)
    phase = Phase.model_validate(
        {
            "objective": "causal_lm",
            "adaptation": {"lora": {"rank": 4}},
            "optimizer": {"adamw": {"lr": 1e-2}},
            "schedule": {"cosine": {"warmup": 0.05}},
            "steps": STEPS,
            "watch": {"keep_best": False},
        }
    )
    order = [[(3 * step + i) % 14 for i in range(2 + step % 4)] for step in range(STEPS)]
    torch.manual_seed(3)
    start = phase.adaptation.apply(make_llama())
    ours, theirs = copy.deepcopy(start), copy.deepcopy(start)
    flat = flat_sft.train(
        theirs, tokenizer, records(), steps=STEPS, tokens_per_step=4096, lr=1e-2, rank=4, seed=1, order=order
    )
    engine = fit(
        Fit(
            models=Models(role_of(ours, tokenizer.pad_token_id)),
            objective=phase.objective,
            adaptation=phase.adaptation,
            phase=phase,
            rows=encoded(tokenizer, phase),
            order=order,
            micro_tokens=64,
        )
    )
    assert engine.losses == pytest.approx(flat, abs=1e-5)
    assert flat[0] - flat[-1] > 0.05, "ten steps in which nothing is learned would prove nothing"
    wanted = dict(theirs.named_parameters())
    moved = 0
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, wanted[name], rtol=0, atol=2e-4)
        moved += int(not torch.equal(parameter, dict(start.named_parameters())[name]))
    assert moved == sum(parameter.requires_grad for parameter in ours.parameters())


def test_the_flat_script_makes_the_same_adapter_from_the_same_seed() -> None:
    phase = Phase.model_validate({"adaptation": {"lora": {"rank": 4}}})
    model = make_llama()
    torch.manual_seed(7)
    ours = dict(phase.adaptation.apply(model).named_parameters())
    theirs = dict(flat_sft.adapt(make_llama(), 4, 7).named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
