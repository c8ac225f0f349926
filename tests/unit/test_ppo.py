"""PPO: its loss and gradients beside plain torch, what it remembers, and a fit that goes on to the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance.world import Task, models_of
from tiny import make_llama
from torch import Tensor, nn
from unit.engine.test_rollout import World

from luthier.core.component import build
from luthier.core.errors import Interrupted, RecipeError
from luthier.core.on_policy import OnPolicy
from luthier.core.recipe import Recipe
from luthier.engine.step import accumulate
from luthier.models.roles import role_of

SETTINGS: dict[str, Any] = {"rewards": [{"length": {"words": 3}}], "answers": 3, "max_new_tokens": 8}


def objective_of(**changes: Any) -> OnPolicy:
    found = build("objectives", {"ppo": {**SETTINGS, **changes}})
    assert isinstance(found, OnPolicy)
    return found


def plain(task: Task, model: nn.Module, head: nn.Linear) -> dict[str, Tensor]:
    """The two terms of a step, row by row and answer by answer, by transformers' own forward and plain torch."""
    settings: Any = task.objective
    sums = {"policy": torch.zeros(()), "value": torch.zeros(())}
    tokens = 0
    for row in task.rows:
        shared = len(row.ids) - sum(row.branches)
        begin = shared
        for answer, length in enumerate(row.branches):
            ids = torch.from_numpy(row.ids)
            whole = torch.cat([ids[:shared], ids[begin : begin + length]])
            begin += length
            said = model(input_ids=whole[None], output_hidden_states=True)
            logps = said.logits[0, shared:-1].log_softmax(-1).gather(-1, whole[shared + 1 :, None])[:, 0]
            values = head(said.hidden_states[-1][0, shared:-1])[:, 0]
            old, before, sampled, advantages, returns = (
                torch.from_numpy(row.fields[name][answer, : length - 1])
                for name in ("old", "values", "sampled", "advantages", "returns")
            )
            ratio, counted = (logps - old).exp(), (old - sampled).exp().clamp(max=settings.sampler_cap)
            held = before + (values - before).clamp(-settings.value_clip, settings.value_clip)
            gained = torch.min(ratio * advantages, ratio.clamp(1 - settings.clip, 1 + settings.clip) * advantages)
            sums["policy"] = sums["policy"] - (counted * gained).sum()
            sums["value"] = sums["value"] + torch.max((values - returns) ** 2, (held - returns) ** 2).sum() / 2
            tokens += length - 1
    return {name: total / tokens for name, total in sums.items()}


def strayed(task: Task) -> Task:
    """The rollout as another sampler would have drawn it: its log-probabilities are 0.2 nats away, up or down."""
    rows = []
    for row in task.rows:
        old = row.fields["old"]
        away = np.where(np.arange(old.size).reshape(old.shape) % 2, 0.2, -0.2) * (old != 0)
        rows.append(replace(row, fields={**row.fields, "sampled": (old + away).astype(np.float32)}))
    return replace(task, rows=rows)


def test_a_steps_loss_and_gradients_are_those_of_plain_torch() -> None:
    """The policy and its values have moved since the rollout, so that some of either are clipped, and the sampler was
    not the trainer; two cuts.
    """
    task = strayed(Task.of(objective_of(kl=0.0, clip=0.05, value_clip=0.02, sampler_cap=1.2)))
    model, other = make_llama(seed=1), make_llama(seed=1)
    models = models_of(task.objective, role_of(model, 0), draw=3)
    head = nn.Linear(model.config.hidden_size, 1)
    assert models.own is not None
    head.load_state_dict(models.own.state_dict())
    step = accumulate(task.objective, (), models, [task.batch(0, 1), task.batch(2, 3, 4, 5)])
    terms = plain(task, other, head)
    (terms["policy"] + 0.1 * terms["value"]).backward()
    assert 0 < step.figures["clipped"] < 1
    assert step.figures["sampler_gap"] == pytest.approx(0.2, rel=1e-4)
    assert step.terms["policy"] == pytest.approx(terms["policy"].item(), rel=1e-5, abs=1e-6)
    assert step.terms["value"] == pytest.approx(0.1 * terms["value"].item(), rel=1e-5)
    pairs = [*zip(model.named_parameters(), other.named_parameters(), strict=True)]
    pairs += [*zip(models.own.named_parameters(), head.named_parameters(), strict=True)]
    largest = max(float(theirs.grad.abs().max()) for _, (_, theirs) in pairs if theirs.grad is not None)
    for (name, ours), (_, theirs) in pairs:
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-5 * largest, msg=name)


def test_a_rollout_begins_where_nothing_is_expected_and_nothing_has_moved() -> None:
    """The value head is zero and the ratio one: whitened advantages add up to nothing, returns are what followed."""
    world = World(objective_of(kl=0.1, gae_lambda=1.0))
    rows = world.rollouts.rows(0, lambda number: world.rows, 4096)
    (told,) = world.events
    figures = told["figures"]
    assert figures["explained_variance"] == 0
    assert figures["kl"] == pytest.approx(0, abs=1e-6)
    assert figures["kl_coefficient"] == 0.1
    assert 0 <= figures["cut"] <= 1
    assert figures["entropy"] > 0
    total = count = 0.0
    for row in rows:
        for answer, tokens in enumerate(row.fields["tokens"].astype(int)):
            total += float(row.fields["advantages"][answer].sum())
            count += tokens
            returns = row.fields["returns"][answer]
            assert not returns[tokens:].any()
            assert returns[:tokens].tolist() == pytest.approx([float(returns[0])] * tokens, abs=1e-5)
    assert total == pytest.approx(0, abs=1e-3 * count)


def test_an_answer_that_was_cut_costs_what_was_agreed() -> None:
    free, dear = (World(objective_of(cut_penalty=penalty, kl=0.0, gae_lambda=1.0)) for penalty in (0.0, 2.0))
    found = [world.rollouts.rows(0, lambda number, world=world: world.rows, 4096) for world in (free, dear)]
    seen = set()
    for one, other in zip(*found, strict=True):
        for answer, cut in enumerate(one.fields["cut"]):
            lost = one.fields["returns"][answer][0] - other.fields["returns"][answer][0]
            assert lost == pytest.approx(2.0 * cut, abs=1e-5)
            seen.add(float(cut))
    assert 1.0 in seen


def test_the_coefficient_is_remembered_from_rollout_to_rollout() -> None:
    """A policy at its reference is below any target, so that kl falls by a fiftieth each time."""
    world = World(objective_of(kl=0.5, kl_target=4.0))
    for number in range(3):
        world.rollouts.rows(number * world.rollouts.steps, lambda number: world.rows, 4096)
    told = [event["figures"]["kl_coefficient"] for event in world.events]
    assert told == pytest.approx([0.5, 0.5 * 0.98, 0.5 * 0.98**2])
    assert world.rollouts.memory == {"kl_coefficient": pytest.approx(0.5 * 0.98**3)}


def test_a_fit_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """The value head, its moments and the coefficient are in the checkpoint."""
    objective = objective_of(passes=2, kl=0.2, kl_target=0.01, kl_gain=1.0)
    whole = World(objective)
    losses = whole.fit(tmp_path / "whole")
    told = [event["figures"]["kl_coefficient"] for event in whole.events if event["event"] == "rollout"]
    assert len({*told}) == len(told) == 3
    asked = iter([True, False, False, False])
    halted = World(objective)
    with pytest.raises(Interrupted, match="step 2 of 6"):
        halted.fit(tmp_path / "parts", stop=lambda: next(asked))
    again = World(objective)
    assert again.fit(tmp_path / "parts") == losses[2:]
    assert [e["figures"]["kl_coefficient"] for e in again.events if e["event"] == "rollout"] == told[1:]
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    own, continued = whole.models.own, again.models.own
    assert own is not None
    assert continued is not None
    assert own.weight.abs().sum() > 0
    assert torch.equal(own.weight, continued.weight)


def test_a_target_for_a_divergence_that_costs_nothing_is_refused() -> None:
    recipe = {"name": "a", "model": "embedded:nano", "data": {"train": "rows.jsonl"}}
    objective = {"ppo": {"rewards": [{"length": {"words": 3}}], "kl": 0.0, "kl_target": 2.0}}
    with pytest.raises(RecipeError, match="kl_target: 2 cannot change"):
        Recipe.of({**recipe, "phases": [{"name": "a", "objective": objective}]})
