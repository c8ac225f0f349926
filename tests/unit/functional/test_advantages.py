"""Rewards of tokens, generalized advantages, values and the adaptive coefficient, worked by hand in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from luthier.functional.advantages import (
    explained_variance,
    generalized_advantages,
    next_coefficient,
    token_rewards,
    value_losses,
    whitened,
)


def grid(*rows: list[float]) -> Tensor:
    """[1, G, L] float64, rows filled up with 9: what lies beyond an answer's end must not matter."""
    longest = max(map(len, rows))
    return torch.tensor([[row + [9.0] * (longest - len(row)) for row in rows]], dtype=torch.float64)


THERE = torch.tensor([[[True, True, True], [True, False, False]]])
"""An answer of three tokens and one of a single token."""


def close(found: Tensor, wanted: object) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_a_reward_lies_on_the_last_token_and_the_divergence_on_each() -> None:
    rewards, divergence = torch.tensor([[2.0, -1.0]], dtype=torch.float64), grid([0.1, -0.2, 0.3], [0.5])
    close(token_rewards(rewards, divergence, THERE, 0.5), [[[-0.05, 0.1, 2 - 0.15], [-1 - 0.25, 0.0, 0.0]]])


def test_advantages_are_sums_of_the_errors_that_follow() -> None:
    """delta = r + 0.9 V(next) - V: 0.95, 0.8, 1.5 and 0.6; each carries 0.9 x 0.5 of the one after it."""
    rewards, values = grid([0.0, 1.0, 2.0], [1.0]), grid([0.4, 1.5, 0.5], [0.4])
    deltas = [0.9 * 1.5 - 0.4, 1 + 0.9 * 0.5 - 1.5, 2 - 0.5]
    second = deltas[1] + 0.45 * deltas[2]
    wanted = [[[deltas[0] + 0.45 * second, second, deltas[2]], [0.6, 0.0, 0.0]]]
    close(generalized_advantages(rewards, values, THERE, 0.9, 0.5), wanted)


def test_decay_1_is_the_return_less_the_value_and_0_the_next_error() -> None:
    rewards, values = grid([0.0, 1.0, 2.0], [1.0]), grid([0.4, 1.5, 0.5], [0.4])
    close(generalized_advantages(rewards, values, THERE, 1.0, 1.0), [[[3 - 0.4, 3 - 1.5, 2 - 0.5], [0.6, 0.0, 0.0]]])
    close(generalized_advantages(rewards, values, THERE, 1.0, 0.0), [[[1.1, 0.0, 1.5], [0.6, 0.0, 0.0]]])


def test_whitening_is_over_the_tokens_that_are_there() -> None:
    """1, 2, 3 and 6: their mean is 3, their variance 14 / 3."""
    by = math.sqrt(14 / 3 + 1e-8)
    close(whitened(grid([1.0, 2.0, 3.0], [6.0]), THERE), [[[-2 / by, -1 / by, 0.0], [3 / by, 0.0, 0.0]]])
    alone = torch.tensor([[[True, False, False], [False, False, False]]])
    close(whitened(grid([1.0, 2.0, 3.0], [6.0]), alone), [[[0.0] * 3] * 2])


@pytest.mark.parametrize(
    ("value", "reach", "loss", "slope"),
    [
        (1.0, 0.2, 0.5 * 1.0, -1.0),  # where it was before: nothing is held
        (1.1, 0.2, 0.5 * 0.81, -0.9),
        (1.5, 0.2, 0.5 * 0.64, 0.0),  # held at 1.2, which is farther from the return of 2: no slope
        (0.5, 0.2, 0.5 * 2.25, -1.5),  # farther from the return than where it is held: the slope leads back
        (1.5, None, 0.5 * 0.25, -0.5),
    ],
)
def test_a_value_that_went_too_far_towards_its_return_has_no_slope(
    value: float, reach: float | None, loss: float, slope: float
) -> None:
    at = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    before, returns = (torch.tensor(number, dtype=torch.float64) for number in (1.0, 2.0))
    found = value_losses(at, before, returns, reach)
    found.backward()
    assert found.item() == pytest.approx(loss)
    assert at.grad is not None
    assert at.grad.item() == pytest.approx(slope)


def test_explained_variance_by_hand() -> None:
    """Returns 1, 2, 3 and 6 vary by 3.5; what values leave of them (0, 0, 0, 2) by 0.75."""
    returns = grid([1.0, 2.0, 3.0], [6.0])
    assert explained_variance(grid([1.0, 2.0, 3.0], [4.0]), returns, THERE) == pytest.approx(1 - 0.75 / 3.5)
    assert explained_variance(returns, returns, THERE) == 1
    assert explained_variance(torch.zeros_like(returns), returns, THERE) == pytest.approx(0)
    assert explained_variance(returns, torch.ones_like(returns), THERE) == 0


@pytest.mark.parametrize(
    ("divergence", "wanted"),
    [(6.0, 0.5), (6.6, 0.5 * 1.01), (5.4, 0.5 * 0.99), (60.0, 0.5 * 1.02), (0.0, 0.5 * 0.98), (-3.0, 0.5 * 0.98)],
)
def test_the_coefficient_follows_the_divergence_a_little_at_a_time(divergence: float, wanted: float) -> None:
    assert next_coefficient(0.5, divergence, 6.0, 0.1) == pytest.approx(wanted, rel=1e-12)
