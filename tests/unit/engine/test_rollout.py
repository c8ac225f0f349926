"""Rollouts: what was said is what is learned, whatever is drawn belongs to the row, and a fit goes on exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance.world import CPU, examples, settings, tokenizer_of
from tiny import make_llama

from luthier.core.component import build
from luthier.core.contracts import Adaptation, Row
from luthier.core.errors import DataError, Interrupted, ModelError, RecipeError
from luthier.core.on_policy import OnPolicy
from luthier.core.recipe import Phase
from luthier.data.encode import Encoding, encode_all
from luthier.engine.fit import Fit, fit
from luthier.engine.rollout import Rollouts, frozen_copy, judging
from luthier.functional.packing import pack
from luthier.functional.policy_gradient import token_grid
from luthier.models.roles import Role, models_for, role_of

WORDS = {"rewards": [{"length": {"words": 3}}], "answers": 3, "max_new_tokens": 8}


def objective_of(**changes: Any) -> OnPolicy:
    found = build("objectives", {"grpo": {**WORDS, **changes}})
    assert isinstance(found, OnPolicy)
    return found


class World:
    """A tiny policy with prompts, its rollouts, and what they log."""

    def __init__(self, objective: OnPolicy, adaptation: str | Adaptation = "full") -> None:
        self.objective = objective
        model = make_llama()
        torch.manual_seed(1)
        made = build("adaptations", adaptation) if isinstance(adaptation, str) else adaptation
        assert isinstance(made, Adaptation)
        self.adaptation = made
        self.model = made.apply(model)
        self.policy: Role = role_of(self.model, 0)
        given = examples("messages", 6)
        self.encoding = Encoding(tokenizer_of(), max_length=160)
        self.rows: list[Row] = encode_all(objective, given, self.encoding)
        self.events: list[dict[str, Any]] = []
        self.shown: list[dict[str, Any]] = []
        self.models = models_for(objective, self.policy)
        moving = [parameter for group in made.groups(self.model) for _, parameter in group.parameters]
        with judging(objective) as judge:
            self.rollouts = Rollouts(
                objective,
                self.policy,
                role_of(frozen_copy(self.model, moving), 0),
                self.models.own,
                examples={example.id: example for example in given},
                encoding=self.encoding,
                judge=judge,
                seed=3,
                device=CPU,
                pad=0,
                log=lambda event, **values: self.events.append({"event": event, **values}),
                phase="train",
                show=lambda event, **values: self.shown.append(values),
            )

    def fit(self, folder: Path | None, stop: Any = lambda: False) -> list[float]:
        phase = Phase(
            objective=self.objective,
            per_step={"rows": 2},
            epochs=1,
            optimizer={"adamw": {"lr": 1e-2}},
            checkpoints={"every": 1},
            watch={"every": 1},
        )
        job = Fit(
            models=self.models,
            objective=self.objective,
            adaptation=self.adaptation,
            phase=phase,
            rows=self.rows,
            validation=self.rows[:2],
            rollouts=self.rollouts,
            folder=folder,
            seed=3,
            log=lambda event, **values: self.events.append({"event": event, **values}),
            stop=stop,
        )
        return list(fit(job).losses)


def test_what_was_drawn_is_what_is_learned_with_the_probabilities_it_was_drawn_with() -> None:
    world = World(objective_of(passes=2))
    found = world.rollouts.rows(0, lambda number: world.rows, 4096)
    assert [len(row.branches) for row in found] == [3] * len(world.rows)
    stop = set(world.encoding.stop)
    for row, prompt in zip(found, world.rows, strict=True):
        shared = len(prompt.ids) - 1
        assert row.ids[:shared].tolist() == prompt.ids[:shared].tolist()
        begin = shared
        for length, tokens in zip(row.branches, row.fields["tokens"], strict=True):
            branch = row.ids[begin : begin + length]
            assert branch[0] == prompt.ids[-1]
            assert row.supervised[begin : begin + length].tolist() == [False] + [True] * (length - 1)
            assert length - 1 == tokens <= 8
            assert not stop & set(branch[1:-1].tolist())
            assert length - 1 == 8 or branch[-1] in stop, "cut, or ended by what is learned too"
            begin += length
    batch = pack(found)
    with torch.no_grad():
        direct = token_grid(world.policy.logps(batch), batch, 8)
    torch.testing.assert_close(batch.fields["sampled"], direct, rtol=0, atol=1e-5)
    torch.testing.assert_close(batch.fields["old"], direct, rtol=0, atol=1e-5)
    (told,) = world.events
    assert told["event"] == "rollout"
    (shown,) = world.shown
    assert (told["step"], shown["step"]) == (1, 1)
    assert shown["samples"][0]["row"] == world.rows[0].id
    rewards = [answer["reward"] for answer in shown["samples"][0]["answers"]]
    assert len(rewards) == 3
    assert told["figures"]["answer_tokens"] == pytest.approx(np.mean([row.fields["tokens"] for row in found]))


def test_a_rows_draws_are_its_own() -> None:
    """Neither what it is asked beside nor its place changes what is drawn; the number of the rollout does."""
    world = World(objective_of())
    whole = world.rollouts.rows(0, lambda number: world.rows, 4096)
    alone = World(objective_of()).rollouts.rows(0, lambda number: world.rows[3:4], 4096)
    assert alone[0].ids.tolist() == whole[3].ids.tolist()
    later = world.rollouts.rows(1, lambda number: world.rows, 4096)
    assert later[3].ids.tolist() != whole[3].ids.tolist()
    twice = World(objective_of()).rollouts.rows(0, lambda number: [world.rows[3], world.rows[3]], 4096)
    assert twice[0].ids.tolist() == whole[3].ids.tolist()
    assert twice[1].ids.tolist() != whole[3].ids.tolist(), "what comes twice is answered twice"


def test_minibatches_share_a_rollout_and_come_again() -> None:
    world = World(objective_of(minibatches=2, passes=2))
    asked: list[int] = []

    def prompts(number: int) -> list[Row]:
        asked.append(number)
        return world.rows[2 * (number % 3) :][:2]

    steps = [[row.id for row in world.rollouts.rows(step, prompts, 4096)] for step in range(5)]
    assert asked == [0, 1, 2, 3]
    assert [world.rollouts.batch_number(step) for step in range(5)] == [0, 1, 0, 1, 2]
    assert steps[0] == steps[2] != steps[1] == steps[3]
    assert len([event for event in world.events if event["event"] == "rollout"]) == 2


@pytest.mark.parametrize(
    "adaptation",
    [
        pytest.param(build("adaptations", {"lora": {"base": "int4"}}), id="lora-int4"),
        *(pytest.param(one, id=name) for name, one in settings("adaptations")),
    ],
)
def test_the_reference_stays_as_it_was_and_shares_what_does_not_move(adaptation: Adaptation) -> None:
    try:
        world = World(objective_of(kl=0.1, passes=2), adaptation)
    except ModelError:
        return  # docs/compositions.md has the reasons
    reference = world.rollouts.reference
    assert reference is not None
    batch = pack(world.rollouts.rows(0, lambda number: world.rows, 4096))
    torch.testing.assert_close(batch.fields["reference"], batch.fields["old"], rtol=0, atol=0)
    ours = {p.data_ptr() for p in world.model.parameters() if not p.requires_grad}
    assert ours <= {p.data_ptr() for p in reference.model.parameters()}
    codes = [[b.data_ptr() for b in m.buffers() if b.dtype == torch.uint8] for m in (world.model, reference.model)]
    assert codes[0] == codes[1], "the codes of a base in few bits"
    with torch.no_grad():
        before = reference.logps(batch)
        for parameter in world.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
        assert torch.equal(reference.logps(batch), before)
        assert not torch.allclose(world.policy.logps(batch), before, atol=1e-4)


def test_a_fit_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Two passes over a rollout: it stops between two of them, where nothing of one is left to be known."""
    objective = objective_of(passes=2, kl=0.05)
    whole = World(objective)
    losses = whole.fit(tmp_path / "whole")
    assert len(losses) == 6
    asked = iter([True, False, False, False])
    halted = World(objective)
    with pytest.raises(Interrupted, match="step 2 of 6"):
        halted.fit(tmp_path / "parts", stop=lambda: next(asked))
    again = World(objective)
    assert again.fit(tmp_path / "parts") == losses[2:]
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    validations = [event for event in whole.events if event["event"] == "validation"]
    assert [event["step"] for event in validations] == [2, 4, 6]
    assert all(event["loss"] == -event["figures"]["reward"] for event in validations)


def test_a_fit_whose_rewards_are_others_begins_anew(tmp_path: Path) -> None:
    """A reward model that was trained again, a function that was mended: all else is as before."""
    objective = objective_of()
    first = World(objective).fit(tmp_path)
    assert World(objective).fit(tmp_path) == [], "it was done"
    changed = World(objective)
    changed.rollouts.rewarded = "another reward model"
    assert len(changed.fit(tmp_path)) == len(first) == 3


def test_rewards_rise() -> None:
    """A tiny model learns to say a letter: the mean reward of the last rollouts lies above that of the first."""
    world = World(objective_of(rewards=[{"contains": {"text": "w"}}], answers=8))
    found = []
    phase = Phase(
        objective=world.objective,
        per_step={"rows": 6},
        steps=12,
        optimizer={"adamw": {"lr": 1e-2}},
        schedule="constant",
    )
    job = Fit(world.models, world.objective, world.adaptation, phase, world.rows, rollouts=world.rollouts)
    fit(replace(job, log=lambda event, **values: found.append(values.get("figures", {}).get("reward"))))
    assert sum(found[-3:]) / 3 > found[0] + 0.2


def test_a_prompt_without_room_for_an_answer_is_refused() -> None:
    objective = objective_of(max_new_tokens=64)
    with pytest.raises(DataError, match="leaves no room"):
        encode_all(objective, examples("messages", 2), Encoding(tokenizer_of(), max_length=66))


@pytest.mark.parametrize("spared", [0, 1])
def test_a_reward_that_fails_for_every_answer_of_the_first_rollout_stops_the_run(spared: int) -> None:
    world = World(objective_of())
    judge = world.rollouts.judge

    def broken(answers: Any) -> Any:
        reasons = {"function: ValueError": len(answers) - 1 - spared, "function: it returned nan": 1}
        return replace(judge(answers), failures=reasons, details=dict.fromkeys(reasons, ""))

    world.rollouts.judge = broken
    if spared:
        assert world.fit(None)
    else:
        with pytest.raises(RecipeError, match="'function' failed for all 6 answers") as caught:
            world.fit(None)
        assert "ValueError; function: it returned nan" in str(caught.value)
        assert "rollouts.jsonl" in str(caught.value)
    assert [event["phase"] for event in world.events if event["event"] == "warning"] == ["train"] * 2
