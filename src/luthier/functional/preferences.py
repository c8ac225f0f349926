"""Losses on preferences, of log-probabilities or rewards that are there already.

Shapes: n pairs or answers. Log-probabilities are those of whole answers, in nats: sums over an answer's tokens, or
means where a function says so. A ratio is log pi(y|x) - log pi_ref(y|x), of the policy against the reference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "bradley_terry",
    "dpo_loss",
    "ipo_loss",
    "kto_figures",
    "kto_loss",
    "log_odds",
    "orpo_loss",
    "pair_figures",
    "plackett_luce",
    "simpo_loss",
]


def dpo_loss(margin: Tensor, smoothing: float = 0.0) -> Tensor:
    """[n] -(1 - e) log sigmoid(m) - e log sigmoid(-m) for the margin m [n] between the rewards of chosen and rejected.

    Rafailov et al. 2023 (arXiv:2305.18290), eq. 7; e, the share of labels that are wrong, makes it conservative DPO
    (Mitchell 2023, "A note on DPO with noisy preferences", eq. 3).
    """
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


def ipo_loss(difference: Tensor, tau: float) -> Tensor:
    """[n] (d - 1 / (2 tau))^2 for the difference d [n] of the ratios of chosen and rejected.

    Gheshlaghi Azar et al. 2023 (arXiv:2310.12036), eq. 17.
    """
    return (difference - 1 / (2 * tau)).square()


def kto_loss(ratio: Tensor, baseline: Tensor, good: Tensor, beta: float) -> Tensor:
    """[n] 1 - sigmoid(beta (r - z)) for good answers and 1 - sigmoid(beta (z - r)) for bad ones.

    ratio r [n], good [n] bool, baseline z: the policy's divergence from the reference, which is not differentiated.
    Ethayarajh et al. 2024 (arXiv:2402.01306), eq. 8, with lambda left to the caller.
    """
    away = beta * (ratio - baseline.detach())
    return 1 - torch.sigmoid(torch.where(good, away, -away))


def log_odds(logps: Tensor) -> Tensor:
    """[n] log(p / (1 - p)) of log p [n] below 0, exact for p near 0 and near 1.

    1 - p is -expm1(log p); log p is held at -1e-7 (float32: the last number below 0 that matters), where odds end.
    """
    held = logps.clamp(max=-1e-7)
    return held - torch.log(-torch.expm1(held))


def orpo_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """[n] -log sigmoid of the log odds ratio of two answers, from mean log-probabilities a token.

    Hong et al. 2024 (arXiv:2403.07691), eq. 7; the whole objective adds the chosen answer's own loss (eq. 6).
    """
    return -F.logsigmoid(log_odds(chosen) - log_odds(rejected))


def simpo_loss(difference: Tensor, beta: float, gamma: float) -> Tensor:
    """[n] -log sigmoid(beta d - gamma) for the difference d [n] of mean log-probabilities a token.

    Meng et al. 2024 (arXiv:2405.14734), eq. 6.
    """
    return -F.logsigmoid(beta * difference - gamma)


def bradley_terry(difference: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """[n] -log sigmoid(d - m) for the difference d [n] of two rewards and the margin m that it is to have.

    Ouyang et al. 2022 (arXiv:2203.02155), eq. 1; with a margin Touvron et al. 2023 (arXiv:2307.09288), eq. 2.
    """
    return -F.logsigmoid(difference - margin)


def plackett_luce(rewards: Tensor, levels: Tensor) -> Tensor:
    """[n] minus log-likelihood of rankings: rewards [n, k] of answers whose place is told by levels [n, k], high first.

    An answer that is not there has the level NaN. Answers of one level are each drawn from all that are not above them
    (Breslow 1974, for ties). Plackett 1975; Luce 1959; two answers make it bradley_terry without a margin.
    """
    there = ~levels.isnan()
    below = there[:, None, :] & (levels[:, None, :] <= levels[:, :, None])
    # A row that is not there must not be -inf throughout: its gradient would be NaN.
    rivals = (below | ~there[:, :, None]).to(rewards.dtype).log() + rewards[:, None, :]
    drawn = rewards - rivals.logsumexp(-1)
    return -torch.where(there, drawn, 0.0).sum(-1)


def pair_figures(rewards: Tensor, lengths: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """What is told of pairs in every step, [S] each: rewards [S, 2] of chosen and rejected, their margin, how often it
    is above 0 (a tie counts half), and lengths [S, 2] in tokens; all times weights [S].
    """
    with torch.no_grad():
        margin = rewards[:, 0] - rewards[:, 1]
        found = {
            "reward_chosen": rewards[:, 0],
            "reward_rejected": rewards[:, 1],
            "margin": margin,
            "accuracy": 0.5 * (1 + margin.sign()),
            "tokens_chosen": lengths[:, 0],
            "tokens_rejected": lengths[:, 1],
        }
        return {name: value * weights for name, value in found.items()}


def kto_figures(
    rewards: Tensor, baseline: Tensor, good: Tensor, share: Tensor, lengths: Tensor, weights: Tensor
) -> dict[str, Tensor]:
    """What is told of single answers in every step, [S] each: how far their reward lies above the baseline (bad ones:
    below), the baseline, and how often it lies on its side (half where on neither); all times weights [S].

    Rewards and lengths [S] of good and of bad answers are over the share [S] of their side in the step, so that a mean
    over all rows is the mean over that side; a side without rows is not told.
    """
    with torch.no_grad():
        away = torch.where(good, rewards - baseline, baseline - rewards)
        found = {"margin": away, "baseline": baseline, "accuracy": 0.5 * (1 + away.sign())}
        for name, side, part in (("good", good, share), ("bad", ~good, 1 - share)):
            if bool((part > 0).all()):
                found |= {f"reward_{name}": rewards * side / part, f"tokens_{name}": lengths * side / part}
        return {name: value * weights for name, value in found.items()}
