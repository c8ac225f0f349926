"""Preference losses by numbers worked out by hand, in float64, and where they are at their edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from luthier.functional.preferences import (
    bradley_terry,
    dpo_loss,
    ipo_loss,
    kto_figures,
    kto_loss,
    log_odds,
    orpo_loss,
    pair_figures,
    plackett_luce,
    simpo_loss,
)


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def near(found: Tensor, *wanted: float) -> None:
    torch.testing.assert_close(found, of(*wanted), rtol=1e-12, atol=1e-12)


def test_dpo_is_the_log_of_the_chance_that_the_chosen_answer_wins() -> None:
    near(dpo_loss(of(0.0, math.log(3), -math.log(3))), math.log(2), math.log(4 / 3), math.log(4))
    # A tenth of the labels is wrong: 0.9 log(4/3) + 0.1 log 4.
    near(dpo_loss(of(math.log(3)), 0.1), 0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def test_smoothed_dpo_is_least_where_the_odds_are_those_of_the_labels() -> None:
    margin = of(math.log(9)).requires_grad_()
    dpo_loss(margin, 0.1).sum().backward()
    assert margin.grad is not None
    near(margin.grad, 0.0)


def test_ipo_is_a_square_around_half_over_tau() -> None:
    near(ipo_loss(of(0.0, 5.0, 6.0, -1.0), 0.1), 25.0, 0.0, 1.0, 36.0)


def test_kto_looks_at_good_and_bad_from_the_baseline() -> None:
    """beta 0.5, z 1: (r - z) beta = log 3 gives 1 - 3/4; a bad answer the same on the other side."""
    ratio = of(1 + 2 * math.log(3), 1 - 2 * math.log(3), 1.0)
    near(kto_loss(ratio, of(1.0), torch.tensor([True, True, False]), 0.5), 0.25, 0.75, 0.5)
    baseline = of(1.0).requires_grad_()
    loss = kto_loss(ratio.requires_grad_(), baseline, torch.tensor([True, False, True]), 0.5)
    loss.sum().backward()
    assert baseline.grad is None, "the baseline is no way to lower the loss"


def test_odds_are_exact_near_nothing_and_near_certainty() -> None:
    near(log_odds(of(math.log(0.75), math.log(0.5))), math.log(3), 0.0)
    tiny = of(-1e-5, -50.0).requires_grad_()
    found = log_odds(tiny)
    # log(p / (1-p)) for p = exp(-1e-5): -1e-5 - log(1e-5 - 5e-11 + ...), and -50 for p near nothing.
    near(found.detach(), -1e-5 - math.log(-math.expm1(-1e-5)), -50 - math.log1p(-math.exp(-50)))
    found.sum().backward()
    assert tiny.grad is not None
    assert bool(tiny.grad.isfinite().all())
    certain = torch.zeros(1).requires_grad_()
    log_odds(certain).sum().backward()
    assert certain.grad is not None
    assert bool(log_odds(certain).isfinite().all() and certain.grad.isfinite().all()), "a probability of 1 is no NaN"


def test_orpo_is_the_log_sigmoid_of_the_ratio_of_odds() -> None:
    """Odds of 3 and 1: the ratio is 3, and its sigmoid 3/4."""
    near(orpo_loss(of(math.log(0.75)), of(math.log(0.5))), math.log(4 / 3))


def test_simpo_wants_a_margin() -> None:
    near(simpo_loss(of(1.0, (math.log(3) + 1) / 2), 2.0, 1.0), math.log1p(math.exp(-1)), math.log(4 / 3))


def test_bradley_terry_with_a_margin_is_as_if_the_rewards_were_nearer() -> None:
    near(bradley_terry(of(math.log(3), 2.0), of(0.0, 2.0)), math.log(4 / 3), math.log(2))


def test_plackett_luce_draws_the_best_of_what_is_left() -> None:
    """exp(r) of 3, 2, 1: 3/6, then 2/3; of two, 3/5. NaN is no answer."""
    rewards = of(3.0, 2.0, 1.0).log()
    levels = torch.stack([of(9, 5, 1), of(1, 5, 9), of(2, 1, math.nan)])
    found = plackett_luce(rewards.expand(3, 3), levels)
    near(found, math.log(6 / 3) + math.log(3 / 2), math.log(6 / 1) + math.log(5 / 2), math.log(5 / 3))
    pair = plackett_luce(rewards[None, :2], of(2, 1)[None])
    near(pair, *bradley_terry(rewards[:1] - rewards[1:2]).tolist())


def test_tied_answers_are_drawn_from_the_same_rivals() -> None:
    """3 and 2 share the first place before 1: 3/6 times 2/6; and a tie of two alone is least where they are alike."""
    near(plackett_luce(of(3.0, 2.0, 1.0).log()[None], of(5, 5, 1)[None]), math.log(2) + math.log(3))
    rewards = of(0.7, 0.7)[None].requires_grad_()
    plackett_luce(rewards, of(1, 1)[None]).sum().backward()
    assert rewards.grad is not None
    near(rewards.grad[0], 0.0, 0.0)


def test_answers_that_are_not_there_teach_nothing() -> None:
    rewards = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    plackett_luce(rewards, of(3, 2, math.nan, math.nan)[None]).sum().backward()
    assert rewards.grad is not None
    near(rewards.grad[0], -0.5, 0.5, 0.0, 0.0)


def test_figures_of_pairs_and_of_single_answers() -> None:
    rewards, lengths = of(2, 1, 0, 3, 1, 1).view(3, 2), of(5, 4, 3, 2, 1, 6).view(3, 2)
    found = pair_figures(rewards, lengths, of(1, 2, 1))
    near(found["margin"], 1, -6, 0)
    near(found["accuracy"], 1, 0, 0.5)
    near(found["tokens_rejected"], 4, 4, 6)
    good, share = torch.tensor([True, True, False]), of(2 / 3, 2 / 3, 2 / 3)
    single = kto_figures(of(2, 0, 1), of(1, 1, 1), good, share, of(5, 8, 3), of(1, 1, 1))
    near(single["margin"], 1, -1, 0)
    near(single["accuracy"], 1, 0, 0.5)
    means = {name: float(value.mean()) for name, value in single.items()}
    assert means["reward_good"] == pytest.approx((2 + 0) / 2)
    assert means["reward_bad"] == pytest.approx(1)
    assert (means["tokens_good"], means["tokens_bad"]) == (pytest.approx(6.5), pytest.approx(3))
    alone = kto_figures(of(2), of(1), torch.tensor([True]), of(1), of(5), of(1))
    assert {"reward_good", "tokens_good"} == {name for name in alone if "_" in name}, "of no bad answer nothing is told"


@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_losses_are_finite_far_out(value: float) -> None:
    for loss in (dpo_loss, lambda x: simpo_loss(x, 2.0, 1.0), bradley_terry):
        x = of(value).requires_grad_()
        found = loss(x)
        found.sum().backward()
        assert x.grad is not None
        assert bool(found.isfinite().all() and x.grad.isfinite().all())
