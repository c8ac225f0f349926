"""Advantages, clipping and the divergence, worked by hand in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from conformance.world import Task, settings

from luthier.core.component import build
from luthier.functional.policy_gradient import (
    at_tokens,
    clipped,
    group_advantages,
    importance,
    k2,
    k3,
    leave_one_out,
    token_grid,
)

REWARDS = torch.tensor([[1.0, 3.0], [2.0, 2.0]], dtype=torch.float64)


def close(found: torch.Tensor, wanted: object) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_advantages_in_a_group() -> None:
    by = math.sqrt(2) + 1e-4
    close(group_advantages(REWARDS), [[-1 / by, 1 / by], [0.0, 0.0]])
    all_ = math.sqrt(2 / 3) + 1e-4  # 1, 3, 2, 2: two away from the mean by 1, over n - 1
    close(group_advantages(REWARDS, "batch"), [[-1 / all_, 1 / all_], [0.0, 0.0]])
    close(group_advantages(REWARDS, "none"), [[-1.0, 1.0], [0.0, 0.0]])


def test_leave_one_out_is_less_the_mean_of_the_others() -> None:
    close(leave_one_out(torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64)), [[1 - 4, 2 - 3.5, 6 - 1.5]])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.5, 2.0, -2.6, 0.0),
        (0.5, 2.0, -1.0, -2.0),
        (0.5, -1.0, 0.8, 0.0),
        (1.5, -1.0, 1.5, 1.0),
    ],
)
def test_what_went_too_far_has_no_slope(ratio: float, advantage: float, loss: float, slope: float) -> None:
    at = torch.tensor(float(ratio), dtype=torch.float64, requires_grad=True)
    found = clipped(at, torch.tensor(float(advantage), dtype=torch.float64), 0.2, 0.3)
    found.backward()
    assert found.item() == pytest.approx(loss)
    assert at.grad is not None
    assert at.grad.item() == pytest.approx(slope)


def test_the_divergence_is_never_negative_and_right_in_the_mean() -> None:
    """Over all outcomes of pi, weighed by it, k3 is sum pi log(pi / pi_ref)."""
    pi, ref = (torch.tensor(p, dtype=torch.float64).log() for p in ([0.2, 0.5, 0.3], [0.4, 0.4, 0.2]))
    values = k3(ref, pi)
    assert (values >= 0).all()
    wanted = sum(p * math.log(p / q) for p, q in ((0.2, 0.4), (0.5, 0.4), (0.3, 0.2)))
    assert float((pi.exp() * values).sum()) == pytest.approx(wanted)


def test_k2_learns_the_divergence_and_k3_another_one() -> None:
    """Over all outcomes, drawn by pi: the gradient of KL(pi, ref) by k2, that of KL(ref, pi) by k3."""
    ref = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64).log()

    def slope(loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        logits = torch.tensor([-1.5, 0.3, 0.1], dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(loss(logits.log_softmax(-1)), logits)
        return found

    near = slope(lambda pi: (pi.detach().exp() * k2(ref, pi)).sum())
    far = slope(lambda pi: (pi.detach().exp() * k3(ref, pi)).sum())
    torch.testing.assert_close(near, slope(lambda pi: (pi.exp() * (pi - ref)).sum()), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(far, slope(lambda pi: (ref.exp() * (ref - pi)).sum()), rtol=1e-12, atol=1e-12)
    assert (near - far).abs().max() > 0.05


def test_a_draw_of_another_sampler_counts_by_importance_up_to_a_limit() -> None:
    """Draws of a sampler, weighed, have the mean of draws of pi: 0.2, 0.5 and 0.3 of the values 1, 2 and 4."""
    pi, sampler, values = (
        torch.tensor(p, dtype=torch.float64) for p in ([0.2, 0.5, 0.3], [0.3, 0.5, 0.2], [1.0, 2.0, 4.0])
    )
    apart = (pi.log() - sampler.log()).requires_grad_()
    weights = importance(apart, 2.0)
    assert float((sampler * weights * values).sum()) == pytest.approx(0.2 + 1.0 + 1.2)
    assert not weights.requires_grad
    close(importance(apart, 1.25), [0.2 / 0.3, 1.0, 1.25])
    close(importance(apart, None), [1.0, 1.0, 1.0])


def test_tokens_go_into_a_grid_and_come_back() -> None:
    objective = next(value for name, value in settings("objectives") if name == "grpo-example")
    batch = Task.of(objective).batch()  # type: ignore[arg-type]
    values = torch.arange(1.0, 1 + int(batch.supervised.sum()))
    grid = token_grid(values, batch, 24)
    assert grid.shape == (batch.size, 4, 24)
    lengths = (grid > 0).sum(-1)
    assert torch.equal(lengths.float(), batch.fields["tokens"])
    assert torch.equal(at_tokens(grid, batch), values)
    first, second = lengths[0, :2].tolist()
    assert grid[0, 1, :second].tolist() == list(range(first + 1, first + second + 1))
    assert torch.equal(at_tokens(lengths, batch)[:first], torch.full((first,), first))


def test_the_divergence_is_part_of_rloos_reward() -> None:
    """R = reward - 0.5 times what the policy gives an answer more than the reference, then less the other's R."""
    objective = build("objectives", {"rloo": {"rewards": ["equals"], "kl": 0.5, "answers": 2}})
    old = torch.tensor([[[-1.0, -2.0], [-3.0, 0.0]]])
    reference = torch.tensor([[[-2.0, -2.0], [-1.0, 0.0]]])
    rollout = {"rewards": torch.tensor([[1.0, 0.0]]).double(), "old": old, "reference": reference}
    found = objective.advantages(rollout, {})  # type: ignore[attr-defined]
    close(found["advantages"], [[(1 - 0.5) - (0 + 1.0), (0 + 1.0) - (1 - 0.5)]])
