"""What tokens of answers were better than expected: rewards laid on tokens, advantages, and how values are learned.

Shapes: P prompts, G answers to each, L tokens of the longest; `there` [P, G, L] is True at an answer's tokens, which
come first. Whatever is found is 0 beyond an answer's end. Divergences are in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "explained_variance",
    "generalized_advantages",
    "next_coefficient",
    "token_rewards",
    "value_losses",
    "whitened",
]

_STEP = 0.2
"""The share of the target that counts of a divergence's error, at the most: Ziegler et al. 2019, section 2.2."""


def token_rewards(rewards: Tensor, divergence: Tensor, there: Tensor, coefficient: float) -> Tensor:
    """[P, G, L] an answer's reward [P, G] at its last token, less coefficient x divergence [P, G, L] at every token.

    Ziegler et al. 2019 (arXiv:1909.08593), eq. 2; divergence: log pi - log pi_ref of the token that was drawn.
    """
    found = -coefficient * divergence * there
    last = (there.sum(-1, keepdim=True) - 1).clamp_min(0)
    return found.scatter_add(-1, last, (rewards * there.any(-1)).unsqueeze(-1).to(found))


def generalized_advantages(rewards: Tensor, values: Tensor, there: Tensor, discount: float, decay: float) -> Tensor:
    """[P, G, L] sums over the tokens that follow of (discount x decay)^k (r + discount V(next) - V), from rewards and
    values [P, G, L]. What follows an answer's last token is worth 0.

    Schulman et al. 2016 (arXiv:1506.02438), eq. 16: decay 1 is the return less the value, 0 the one-step error.
    """
    found = torch.zeros_like(values)
    following = torch.zeros_like(values[..., 0])
    carried = torch.zeros_like(following)
    for at in reversed(range(values.shape[-1])):
        error = rewards[..., at] + discount * following - values[..., at]
        carried = (error + discount * decay * carried) * there[..., at]
        following = values[..., at] * there[..., at]
        found[..., at] = carried
    return found


def whitened(values: Tensor, there: Tensor) -> Tensor:
    """Values less their mean and divided by their standard deviation (of n - 1), over all tokens that are there."""
    known = values[there]
    if len(known) < 2:
        return torch.zeros_like(values)
    return (values - known.mean()) / (known.var() + 1e-8).sqrt() * there


def value_losses(values: Tensor, before: Tensor, returns: Tensor, reach: float | None) -> Tensor:
    """Half the squared error of each value, or of the value held within `reach` of what it was `before`, whichever is
    larger: Schulman et al. 2017 (arXiv:1707.06347), eq. 9, clipped as in the authors' own code; reach None: not held.
    """
    errors = (values - returns).square()
    if reach is not None:
        held = torch.clamp(values, before - reach, before + reach)
        errors = torch.maximum(errors, (held - returns).square())
    return 0.5 * errors


def explained_variance(values: Tensor, returns: Tensor, there: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over the tokens that are there: 1 where values foresee returns, 0 where
    they tell no more than their mean, below 0 where they mislead. 0 where returns do not vary.
    """
    known, wanted = values[there], returns[there]
    spread = float(wanted.var(correction=0)) if len(wanted) else 0.0
    return 1 - float((wanted - known).var(correction=0)) / spread if spread > 0 else 0.0


def next_coefficient(coefficient: float, divergence: float, target: float, gain: float) -> float:
    """The coefficient of the divergence after a rollout that was `divergence` nats an answer away from its reference.

    coefficient x (1 + gain x clip((divergence - target) / target, -0.2, 0.2)): Ziegler et al. 2019 (arXiv:1909.08593),
    section 2.2, who took a gain of 0.1.
    """
    error = min(max((divergence - target) / target, -_STEP), _STEP)
    return coefficient * (1 + gain * error)
