"""Schedules against values worked out by hand and against transformers' and torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from luthier.core.component import build
from luthier.core.errors import RecipeError
from luthier.schedules.constant import Constant
from luthier.schedules.cosine import Cosine
from luthier.schedules.linear import Linear
from luthier.schedules.warmup_stable_decay import WarmupStableDecay


def factors(schedule, total: int) -> list[float]:
    return [schedule.at(step, total) for step in range(total)]


def test_constant():
    assert factors(Constant(), 4) == [1.0] * 4
    assert factors(Constant(warmup=0.5), 8) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_linear_by_hand():
    # Two steps of warmup, then 1 at the third of ten and 0 at the last: sevenths.
    expected = [0.5, 1.0, *[1 - i / 7 for i in range(8)]]
    assert factors(Linear(warmup=0.2), 10) == pytest.approx(expected, abs=1e-15)
    assert factors(Linear(warmup=0.0, floor=0.4), 4) == pytest.approx([1.0, 0.8, 0.6, 0.4], abs=1e-15)


def test_cosine_by_hand():
    expected = [0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(5)]
    assert factors(Cosine(warmup=0.0), 5) == pytest.approx(expected, abs=1e-15)
    assert expected[2] == pytest.approx(0.5)
    assert factors(Cosine(warmup=0.0, floor=0.2), 5) == pytest.approx([0.2 + 0.8 * x for x in expected], abs=1e-15)


def test_warmup_stable_decay_by_hand():
    one = WarmupStableDecay(warmup=0.2, decay=0.4, floor=0.0)
    assert factors(one, 10) == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0], abs=1e-15)
    half = WarmupStableDecay(warmup=0.0, decay=0.5, floor=0.5)
    assert factors(half, 4) == pytest.approx([1, 1, 0.75, 0.5], abs=1e-15)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda share: Linear(warmup=share), get_linear_schedule_with_warmup),
        (lambda share: Cosine(warmup=share), get_cosine_schedule_with_warmup),
    ],
    ids=["linear", "cosine"],
)
def test_the_shape_is_that_of_transformers(ours, theirs):
    """Theirs starts the warmup at 0 and comes to 0 one step after the last; ours uses both of these steps."""
    total, warm = 21, 5
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = theirs(optimizer, num_warmup_steps=warm, num_training_steps=total + warm)
    seen = []
    for _ in range(total + warm):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    mine = factors(ours(warm / total), total)
    assert mine[:warm] == pytest.approx(seen[1 : warm + 1], abs=1e-12)
    falls = factors(ours(0.0), total + 1)
    assert falls[:total] == pytest.approx(seen[warm:], abs=1e-12)
    assert falls[-1] == 0


def test_bounds_are_kept():
    for name, parameters in [
        ("cosine", {"warmup": 1.0}),
        ("linear", {"floor": 1.5}),
        ("constant", {"warmup": -0.1}),
        ("warmup_stable_decay", {"decay": 0.0}),
    ]:
        with pytest.raises(RecipeError) as caught:
            build("schedules", {name: parameters})
        (key,) = parameters
        assert caught.value.problems[0].where == f"{name}.{key}"


@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_shortest_runs_train(total):
    """A run of few steps is not lost to its warmup: some step has a rate above zero."""
    for schedule in (Constant(), Linear(), Cosine(), WarmupStableDecay()):
        assert sum(factors(schedule, total)) > 0, schedule
