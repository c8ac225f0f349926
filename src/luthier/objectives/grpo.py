"""Group relative policy optimization: answers that are worth more than others to the same prompt become likelier.

    -w min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + kl d^2 / 2   for each token of an answer
    A = (reward - mean of the group) / standard deviation,  r = pi / pi that answered,  d = log pi_ref - log pi

There is no value model. `average` says how tokens are added up: `sequence`, the mean over an answer's tokens and then
over answers (GRPO); `token`, the mean over all tokens of the step (DAPO); `constant`, sums divided by max_new_tokens
(Dr. GRPO, with scale: none). With one step a rollout r is 1 and only its gradient counts. w is what training finds of a
token against what the sampler found, at most sampler_cap: 1 but for rounding. The divergence's term is k2, whose
gradient is that of the divergence; with k3 it is the paper's, exp(d) - d - 1, which has another gradient. Source: Shao
et al. 2024 (arXiv:2402.03300), eq. 3 and 4; DAPO: Yu et al. 2025 (arXiv:2503.14476); Dr. GRPO: Liu et al. 2025
(arXiv:2503.20783); k2: Tang and Munos 2025 (arXiv:2506.09477). Log-probabilities are in nats. Errors: DataError for a
prompt that leaves no room for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ..core.contracts import Batch, Models, Term
from ..core.errors import Problem
from ..core.on_policy import OnPolicy

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.recipe import Phase, Recipe

__all__ = ["GRPO"]


class GRPO(OnPolicy):
    """Learns from rewards alone, by rule, function or reward model. Reported: rewards, the divergence from the
    reference, the share of tokens that were clipped, and how far sampler and trainer differ.
    """

    example: ClassVar[dict[str, Any]] = {
        "rewards": [{"length": {"words": 12}}],
        "answers": 4,
        "max_new_tokens": 24,
        "kl": 0.02,
        "average": "token",
        "passes": 2,
    }
    average: Literal["sequence", "token", "constant"] = Field(
        "sequence", description="how the losses of tokens are added up"
    )
    scale: Literal["group", "batch", "none"] = Field(
        "group", description="whose standard deviation advantages are divided by"
    )
    divergence: Literal["k2", "k3"] = Field(
        "k2", description="how far from the reference, for each token: k2, with the right gradient, or k3, the paper's"
    )
    clip_low: float = Field(0.2, gt=0, lt=1, description="how far a token may become less likely in a rollout's steps")
    clip_high: float = Field(0.2, gt=0, description="how far it may become likelier; DAPO takes 0.28")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        yield from super().problems(recipe, phase)
        if self.answers < 2:
            yield Problem(
                "one answer to a prompt cannot be better than the others",
                expected="at least 2 answers to each prompt",
                remedy="answers: 8",
            )

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.policy_gradient import token_grid

        found = {}
        if self.reuses:
            found["old"] = token_grid(models.policy.logps(batch), batch, self.max_new_tokens)
        if self.refers:
            found["reference"] = token_grid(models.role("reference").logps(batch), batch, self.max_new_tokens)
        return found

    def advantages(self, rollout: Mapping[str, Tensor], memory: dict[str, float]) -> Mapping[str, Tensor]:
        from ..functional.policy_gradient import group_advantages

        return {"advantages": group_advantages(rollout["rewards"], self.scale)}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        from ..functional.packing import segment_sum, sequence_index

        if self.average != "token":
            return {"grpo": batch.weights}
        tokens = segment_sum(batch.supervised.to(batch.weights), sequence_index(batch.starts), batch.size)
        return {"grpo": tokens * batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.branches import branch_counts, branch_sums
        from ..functional.policy_gradient import at_tokens, clipped, importance, k2, k3

        fields, logps = batch.fields, models.policy.logps(batch)
        now = logps.detach()
        old = at_tokens(fields["old"], batch) if "old" in fields else now
        advantages = at_tokens(fields["advantages"], batch).to(logps.dtype)
        ratio, apart = (logps - old).exp(), old - at_tokens(fields["sampled"], batch)
        losses = clipped(ratio, advantages, self.clip_low, self.clip_high) * importance(apart, self.sampler_cap)
        told = {
            "clipped": (ratio < 1 - self.clip_low) & (advantages < 0) | (ratio > 1 + self.clip_high) & (advantages > 0),
            "sampler_gap": apart.abs(),
        }
        if "reference" in fields:
            reference = at_tokens(fields["reference"], batch)
            losses = losses + self.kl * (k2 if self.divergence == "k2" else k3)(reference, logps)
            told["kl"] = k3(reference, now)
        counts = branch_counts(batch)

        def of_rows(values: Tensor, divisor: Tensor | float) -> Tensor:
            """[S] each answer's sum over its divisor; the mean over answers, but where tokens are counted."""
            sums = (branch_sums(values.to(logps.dtype), batch) / divisor).view(batch.size, -1)
            return (sums.sum(-1) if self.average == "token" else sums.mean(-1)) * batch.weights

        alike = 1.0 if self.average == "token" else counts.clamp_min(1)
        totals = of_rows(losses, float(self.max_new_tokens) if self.average == "constant" else alike)
        return [Term("grpo", totals, figures={name: of_rows(value, alike) for name, value in told.items()})]
