"""Advantages and losses of policy gradients, of rewards and log-probabilities that are there already.

Shapes: P prompts, G answers to each, L tokens of the longest, N tokens of all, S rows of a batch. Log-probabilities are
in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.contracts import Batch
from .branches import branch_index

__all__ = [
    "at_tokens",
    "clipped",
    "group_advantages",
    "importance",
    "k2",
    "k3",
    "leave_one_out",
    "token_grid",
    "token_places",
]

_LEAST = 1e-4
"""What is added to a standard deviation that is divided by; as TRL has it."""


def group_advantages(rewards: Tensor, scale: str = "group") -> Tensor:
    """[P, G] rewards less their group's mean, divided by its standard deviation ("group"), that of all ("batch"), or
    by nothing ("none").

    Shao et al. 2024 (arXiv:2402.03300), section 4.1.2; none: Liu et al. 2025 (arXiv:2503.20783); batch: Hu et al. 2025
    (arXiv:2501.03262). Standard deviations are of n - 1; of a single number 0.
    """
    away = rewards - rewards.mean(-1, keepdim=True)
    if scale == "none":
        return away
    spread = rewards if scale == "group" else rewards.reshape(1, -1)
    if spread.shape[-1] < 2:
        return torch.zeros_like(away)
    return away / (spread.std(-1, keepdim=True) + _LEAST)


def leave_one_out(rewards: Tensor) -> Tensor:
    """[P, G] rewards less the mean of the other answers' to the same prompt. Ahmadian et al. 2024 (arXiv:2402.14740),
    section 2.2; G is at least 2.
    """
    count = rewards.shape[-1]
    return rewards - (rewards.sum(-1, keepdim=True) - rewards) / (count - 1)


def clipped(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """-min(r A, clip(r, 1 - low, 1 + high) A), element by element: Schulman et al. 2017 (arXiv:1707.06347), eq. 7; with
    low and high apart: Yu et al. 2025 (arXiv:2503.14476), eq. 10.
    """
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def importance(apart: Tensor, most: float | None) -> Tensor:
    """exp(d), at most `most`, for d = log pi of the trainer - log pi of the sampler: what a draw of the sampler counts
    as one of the trainer's; no gradient goes through it. most None: 1, nothing is corrected.

    Ionides 2008, "Truncated importance sampling"; between sampler and trainer TRL has it as token_truncate.
    """
    apart = apart.detach()
    return torch.ones_like(apart) if most is None else apart.exp().clamp(max=most)


def k2(reference: Tensor, logps: Tensor) -> Tensor:
    """d^2 / 2 for d = log pi_ref - log pi: its gradient is, in the mean over draws of pi, that of the divergence from
    the reference. Schulman 2020, "Approximating KL divergence"; the gradient: Tang and Munos 2025 (arXiv:2506.09477).
    """
    return 0.5 * (reference - logps).square()


def k3(reference: Tensor, logps: Tensor) -> Tensor:
    """exp(d) - d - 1 for d = log pi_ref - log pi: what the divergence from the reference is in the mean over draws of
    pi, and never negative. Its gradient is not the divergence's but that of the reference's divergence from pi.
    Schulman 2020, "Approximating KL divergence"; the gradient: Tang and Munos 2025 (arXiv:2506.09477).
    """
    difference = reference - logps
    return torch.expm1(difference) - difference


def token_places(batch: Batch) -> Tensor:
    """[N] where each supervised token lies in a flat grid [B, L]: its branch, and its number in the branch, as two rows
    [2, N].
    """
    branch = branch_index(batch)[batch.supervised]
    assert batch.branches is not None
    counts = torch.bincount(branch, minlength=len(batch.branches))
    firsts = counts.cumsum(0) - counts
    number = torch.arange(len(branch), device=branch.device) - firsts.index_select(0, branch)
    return torch.stack([branch, number])


def token_grid(values: Tensor, batch: Batch, width: int) -> Tensor:
    """[S, G, L] of values [N] of the supervised tokens of rows that all have G branches; 0 beyond a branch's end."""
    assert batch.branches is not None
    branch, number = token_places(batch)
    grid = values.new_zeros(len(batch.branches) * width).index_copy(0, branch * width + number, values)
    return grid.view(batch.size, -1, width)


def at_tokens(grid: Tensor, batch: Batch) -> Tensor:
    """[N] of a grid [S, G, L] of what belongs to the supervised tokens, or [S, G] of what belongs to their branch."""
    branch, number = token_places(batch)
    if grid.dim() == 2:
        return grid.reshape(-1).index_select(0, branch)
    return grid.reshape(-1).index_select(0, branch * grid.shape[-1] + number)
