"""What every objective, penalty, optimizer and schedule keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from conformance.world import KINDS, Task, every, load, models_of, settings
from conformance.world import home as kind_of

from luthier.core.component import build
from luthier.core.contracts import (
    Adaptation,
    Batch,
    Objective,
    Optimizer,
    ParameterGroup,
    Penalty,
    Schedule,
    Term,
)
from luthier.core.errors import ModelError, RecipeError
from luthier.core.on_policy import OnPolicy
from luthier.core.recipe import Recipe
from luthier.engine.optimize import Stepper
from luthier.engine.step import accumulate, mean_loss
from luthier.models.load import Loaded
from luthier.models.roles import Models, role_of

TASKS = [
    pytest.param(objective, part, id=f"{name}-{part}")
    for name, objective in settings("objectives")
    for part in sorted(objective.needs)
]
each = pytest.mark.parametrize(("objective", "part"), TASKS)


def home(task: Task) -> Loaded:
    """A model that the objective can train: the encoder where it needs a head, else the language model."""
    return load(kind_of(task.objective.task), task.objective.task, task.facts)


def learning(task: Task, loaded: Loaded) -> Models:
    return models_of(task.objective, role_of(loaded.model, loaded.tokenizer.pad_token_id), draw=1)


def terms_of(objective: Objective, models: Models, batch: Batch) -> list[Term]:
    """The terms of a step that is this batch alone."""
    (ready,) = objective.collect(models, [batch])
    return objective.loss(models, ready)


def by_sequence(counts: torch.Tensor, batch: Batch) -> bool:
    """Whether each row counts one, or nothing where a term says nothing of it."""
    return bool(((counts == batch.weights) | (counts == 0)).all()) and bool((counts > 0).any())


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# ---- objectives ------------------------------------------------------------------------------------------------------


@each
def test_an_objective_encodes_the_same_rows_again(objective: Objective, part):
    task, again = Task.of(objective, part), Task.of(objective, part)
    assert len({row.id for row in task.rows}) == len(task.rows) > 2
    assert [row.ids.tolist() for row in task.rows] == [row.ids.tolist() for row in again.rows]
    assert task.facts == again.facts
    assert not any(row.supervised[0] for row in task.rows if row.targets is None)


@each
def test_counts_need_no_model_and_are_tokens_or_sequences(objective: Objective, part):
    task = Task.of(objective, part)
    batch = task.batch()
    tokens = torch.tensor([float(row.supervised.sum()) for row in task.rows])
    for counts in objective.counts(batch).values():
        assert counts.shape == (batch.size,)
        assert torch.equal(counts, tokens * batch.weights) or by_sequence(counts, batch)
    for name, counts in objective.counts(task.batch(0, 1, weight=3.0)).items():
        torch.testing.assert_close(counts, 3 * objective.counts(task.batch(0, 1, weight=1.0))[name])


@each
def test_a_loss_is_sums_by_sequence_whatever_the_pack(objective: Objective, part):
    task = Task.of(objective, part)
    models = learning(task, home(task))
    whole = terms_of(objective, models, task.batch())
    assert {term.name for term in whole} == set(objective.counts(task.batch()))
    for number, term in enumerate(whole):
        assert term.totals.shape == (len(task.rows),)
        assert bool(term.totals.isfinite().all())
        parts = [task.batch(i) for i in range(len(task.rows))]
        # What the rows of a step say of each other is there however the step is cut.
        steps = [parts] if objective.coupled else [[part] for part in parts]
        ready = [batch for step in steps for batch in objective.collect(models, step)]
        alone = torch.cat([objective.loss(models, batch)[number].totals for batch in ready])
        torch.testing.assert_close(term.totals, alone, rtol=1e-5, atol=1e-5)
        backward = terms_of(objective, models, task.batch(*reversed(range(len(task.rows)))))[number].totals
        torch.testing.assert_close(term.totals, backward.flip(0), rtol=1e-5, atol=1e-5)


@each
def test_a_weight_multiplies_loss_and_count(objective: Objective, part):
    task = Task.of(objective, part)
    models = learning(task, home(task))
    once, thrice = (terms_of(objective, models, task.batch(0, 1, weight=w)) for w in (1.0, 3.0))
    for one, three in zip(once, thrice, strict=True):
        torch.testing.assert_close(3 * one.totals, three.totals)


@each
def test_the_gradient_of_a_step_does_not_depend_on_its_cuts(objective: Objective, part):
    task = Task.of(objective, part)
    loaded = home(task)
    models = learning(task, loaded)
    found = []
    for cuts in ([range(len(task.rows))], [[0], [1, 2], range(3, len(task.rows))]):
        loaded.model.zero_grad()
        step = accumulate(objective, (), models, [task.batch(*cut) for cut in cuts])
        found.append((step.loss, gradients(loaded.model)))
    (loss, one), (same, many) = found
    assert loss == pytest.approx(same, rel=1e-6)
    assert loss == pytest.approx(mean_loss(objective, models, [task.batch()]), rel=1e-6)
    assert one.keys() == many.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    for name, gradient in one.items():  # what cancels keeps the rounding of what is large
        torch.testing.assert_close(gradient, many[name], rtol=1e-4, atol=max(2e-6, 1e-5 * largest), msg=name)
    assert any(bool(gradient.abs().sum() > 0) for gradient in one.values())


@each
def test_nothing_to_learn_is_zero_attached_to_the_graph(objective: Objective, part):
    """Rows that count nothing: weight 0, and nothing supervised where tokens are what is counted."""
    task = Task.of(objective, part)
    loaded = home(task)
    models = learning(task, loaded)
    batch = task.batch()
    none = {name: value[:0] for name, value in batch.tokens.items()}
    empty = replace(batch, supervised=torch.zeros_like(batch.supervised), tokens=none)
    by_token = not all(by_sequence(counts, batch) for counts in objective.counts(batch).values())
    for nothing in [task.batch(0, 1, weight=0.0), *([empty] if by_token else [])]:
        loaded.model.zero_grad()
        for term in terms_of(objective, models, nothing):
            assert term.totals.tolist() == [0.0] * nothing.size
            assert term.totals.requires_grad
        assert accumulate(objective, (), models, [nothing]).loss == 0.0
        assert all(bool((gradient == 0).all()) for gradient in gradients(loaded.model).values())
        alone = accumulate(objective, (), models, [task.batch(0, 1)]).loss
        assert accumulate(objective, (), models, [task.batch(0, 1), nothing]).loss == pytest.approx(alone, rel=3e-6)


@each
def test_a_few_steps_lower_the_loss(objective: Objective, part):
    task = Task.of(objective, part)
    loaded = home(task)
    models = learning(task, loaded)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=3e-3)
    before = mean_loss(objective, models, [task.batch()])
    for _ in range(8):
        accumulate(objective, (), models, [task.batch()])
        optimizer.step()
        optimizer.zero_grad()
    fall = 0.05 * min(1.0, before)  # a loss of weighted parts may be less than a nat to begin with
    if isinstance(objective, OnPolicy):
        # Advantages times a ratio to the policy that answered: 0 there, and what it can fall by is bounded by clipping.
        fall = 0.01 if objective.reuses else 0.0
    assert mean_loss(objective, models, [task.batch()]) < before - fall


# ---- penalties -------------------------------------------------------------------------------------------------------


def begun(penalty: Penalty, adaptation: Adaptation, kind: str):
    """The adapted model with the penalty's state; or the ModelError where it refuses that adaptation."""
    wanted = {"llama": "causal_lm", "bert": "sequence_classification", "t5": "seq2seq"}[kind]
    task = Task.of(next(objective for _, objective in settings("objectives") if objective.task == wanted))
    loaded = load(kind, wanted, task.facts)
    try:
        model = adaptation.apply(loaded.model)
        state = penalty.begin(model)
    except ModelError as refusal:
        return refusal
    return model, Models(role_of(model, loaded.tokenizer.pad_token_id)), state


@every("penalties", "penalty")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "adaptation",
    [a for n, a in settings("adaptations") if not n.endswith("-example")],
    ids=lambda a: a.component_name(),
)
def test_a_penalty_is_one_attached_number_that_grows_from_the_start(penalty: Penalty, adaptation, kind):
    found = begun(penalty, adaptation, kind)
    if isinstance(found, ModelError):
        assert all(problem.remedy for problem in found.problems)
        return
    model, models, state = found
    start = penalty.terms(models, None, state)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    moved = penalty.terms(models, None, state)
    assert [term.name for term in start] == [term.name for term in moved]
    assert len({term.name for term in start}) == len(start) > 0
    for first, then in zip(start, moved, strict=True):
        assert first.totals.shape == then.totals.shape == (1,)
        assert first.totals.requires_grad
        assert 0 <= first.totals.item() < then.totals.item() < math.inf
        then.totals.sum().backward()
    found_gradients = gradients(model)
    assert found_gradients
    assert all(bool(gradient.isfinite().all()) for gradient in found_gradients.values())
    assert set(found_gradients) <= {name for name, p in model.named_parameters() if p.requires_grad}


# ---- optimizers ------------------------------------------------------------------------------------------------------


def stepper(optimizer: Optimizer, lr: float = 0.05, total: int = 60) -> tuple[Stepper, torch.nn.Parameter]:
    weight = torch.nn.Parameter(torch.tensor([[3.0, -2.0], [0.5, 1.0]]))
    group = ParameterGroup("body", (("weight", weight),))
    schedule = build("schedules", "constant")
    assert isinstance(schedule, Schedule)
    return Stepper(optimizer, schedule, [group], lr=lr, total=total, clip=None), weight


def descend(one: Stepper, weight: torch.nn.Parameter, steps: range) -> float:
    scale = torch.tensor([[1.0, 0.5], [2.0, 1.0]])
    for step in steps:
        (scale * weight.square()).sum().backward()
        one.step(step)
    return float((scale * weight.detach().square()).sum())


@every("optimizers", "optimizer")
def test_an_optimizer_goes_down_a_quadratic(optimizer: Optimizer):
    one, weight = stepper(optimizer)
    start = descend(one, weight, range(0))
    assert descend(one, weight, range(60)) < 0.25 * start


@every("optimizers", "optimizer")
def test_an_optimizers_state_is_tensors_that_restore_it(optimizer: Optimizer):
    """30 steps and then 30 from the saved state are 60 steps, bit for bit."""
    whole, weight = stepper(optimizer)
    descend(whole, weight, range(60))
    first, half = stepper(optimizer)
    descend(first, half, range(30))
    state = {name: value.clone() for name, value in first.state().items()}
    weights = {name: value.clone() for name, value in first.weights().items()}
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    second, rest = stepper(optimizer)
    second.load_weights(weights)
    second.load_state(state)
    descend(second, rest, range(30, 60))
    assert torch.equal(rest, weight)


@every("optimizers", "optimizer")
def test_an_optimizer_takes_rates_and_decay_from_the_groups(optimizer: Optimizer):
    still, moving = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    made = optimizer.make(
        [
            {"params": [still], "lr": 0.0, "weight_decay": 0.5},
            {"params": [moving], "lr": 0.1, "weight_decay": 0.0},
        ]
    )
    assert [(group["lr"], group["weight_decay"]) for group in made.param_groups] == [(0.0, 0.5), (0.1, 0.0)]
    (still.sum() + moving.sum()).backward()
    made.step()
    assert still.tolist() == [1.0] * 3
    assert all(value < 1 for value in moving.tolist())


@every("optimizers", "optimizer")
def test_an_optimizer_refuses_a_rate_of_zero_or_below(optimizer: Optimizer):
    for rate in (0.0, -1e-3):
        with pytest.raises(RecipeError, match="greater than 0"):
            build("optimizers", {optimizer.component_name(): {"lr": rate}})


# ---- schedules -------------------------------------------------------------------------------------------------------


@every("schedules", "schedule")
@pytest.mark.parametrize("total", [1, 2, 3, 10, 1000])
def test_a_schedule_stays_between_zero_and_the_peak(schedule: Schedule, total):
    factors = [schedule.at(step, total) for step in range(total)]
    assert all(isinstance(factor, float) and 0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0, "the first step moves something"
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1]), "rises to the peak"
    assert factors[peak:] == sorted(factors[peak:], reverse=True), "and does not rise again"
    if total >= 10:
        assert max(factors) == pytest.approx(1, abs=1e-9)


@every("schedules", "schedule")
def test_a_schedule_is_a_function_of_the_step(schedule: Schedule):
    forwards = [schedule.at(step, 100) for step in range(100)]
    assert forwards == [schedule.at(step, 100) for step in reversed(range(100))][::-1]


@every("schedules", "schedule")
def test_a_schedule_goes_into_a_recipe_and_comes_back(schedule: Schedule):
    recipe = Recipe.model_validate(
        {"name": "a", "model": "m", "data": {"train": "x"}, "phases": [{"schedule": schedule}]}
    )
    assert recipe.phases[0].schedule == schedule
    assert Recipe.model_validate(recipe.model_dump(mode="json", by_alias=True)).phases[0].schedule == schedule
