"""Reinforce with the other answers to a prompt as its baseline: each answer against the mean of its siblings.

    -w min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)   for each answer as a whole
    A = R - mean of the other answers' R,  R = reward - kl (log pi - log pi_ref),  r = pi / pi that answered

An answer is one action: log-probabilities are sums over its tokens, in nats, and the divergence from the reference is
part of the reward. With one step a rollout r is 1, and the gradient is that of REINFORCE. There is no value model, and
nothing is divided by a standard deviation. w is what training finds of an answer against what the sampler found, at
most sampler_cap: 1 but for rounding. The loss is a mean over answers. Source: Ahmadian et al. 2024
(arXiv:2402.14740), section 2.2; Kool et al. 2019; clipping as in Schulman et al. 2017 (arXiv:1707.06347), eq. 7.
Errors: DataError for a prompt that leaves no room for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Models, Term
from ..core.errors import Problem
from ..core.on_policy import OnPolicy

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.recipe import Phase, Recipe

__all__ = ["RLOO"]


class RLOO(OnPolicy):
    """Learns from rewards alone, with fewer choices than GRPO. Reported: rewards, the divergence from the reference in
    nats an answer, the share of answers that were clipped, and how far sampler and trainer differ.
    """

    example: ClassVar[dict[str, Any]] = {
        "rewards": [{"length": {"words": 12}}],
        "answers": 4,
        "max_new_tokens": 24,
        "kl": 0.02,
        "passes": 2,
    }
    clip_low: float = Field(
        0.2, gt=0, lt=1, description="how far an answer may become less likely in a rollout's steps"
    )
    clip_high: float = Field(0.2, gt=0, description="how far it may become likelier")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        yield from super().problems(recipe, phase)
        if self.answers < 2:
            found = "one answer to a prompt has no others to be held against"
            yield Problem(found, expected="at least 2 answers to each prompt", remedy="answers: 4")

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.policy_gradient import token_grid

        found = {}
        if self.reuses or self.refers:
            found["old"] = token_grid(models.policy.logps(batch), batch, self.max_new_tokens)
        if self.refers:
            found["reference"] = token_grid(models.role("reference").logps(batch), batch, self.max_new_tokens)
        return found

    def advantages(self, rollout: Mapping[str, Tensor], memory: dict[str, float]) -> Mapping[str, Tensor]:
        from ..functional.policy_gradient import leave_one_out

        rewards = rollout["rewards"]
        if self.refers:
            rewards = rewards - self.kl * (rollout["old"].double() - rollout["reference"].double()).sum(-1)
        return {"advantages": leave_one_out(rewards)}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"rloo": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.branches import branch_counts, branch_sums
        from ..functional.policy_gradient import at_tokens, clipped, importance

        fields, logps = batch.fields, models.policy.logps(batch)
        sums = branch_sums(logps, batch).view(batch.size, -1)
        old = fields["old"].sum(-1) if self.reuses else sums.detach()
        advantages, ratio = fields["advantages"].to(sums.dtype), (sums - old).exp()
        then = at_tokens(fields["old"], batch) if "old" in fields else logps.detach()
        apart = then - at_tokens(fields["sampled"], batch)
        counted = importance(branch_sums(apart, batch).view(batch.size, -1), self.sampler_cap)
        losses = clipped(ratio, advantages, self.clip_low, self.clip_high) * counted
        told = {
            "clipped": (ratio < 1 - self.clip_low) & (advantages < 0) | (ratio > 1 + self.clip_high) & (advantages > 0),
            "sampler_gap": (branch_sums(apart.abs(), batch) / branch_counts(batch).clamp_min(1)).view(batch.size, -1),
        }
        if "reference" in fields:
            told["kl"] = sums.detach() - fields["reference"].sum(-1)
        figures = {name: value.to(sums.dtype).mean(-1) * batch.weights for name, value in told.items()}
        return [Term("rloo", losses.mean(-1) * batch.weights, figures=figures)]
