"""Proximal policy optimization: each token of an answer is weighed by how much better it went on than was expected.

    -w min(r A, clip(r, 1 - clip, 1 + clip) A) + value_weight / 2 max((V - R)^2, (V_held - R)^2)    for each token
    A = whitened sum over k of (gamma lambda)^k (r_t+k + gamma V_t+k+1 - V_t+k),  R = A before whitening + V
    r_t = reward at the last token - kl (log pi - log pi_ref) at every token,  r = pi / pi that answered

What is expected (V) is read from the policy's own states by a linear head, which trains beside it and is let go with
the phase; V_held is V within value_clip of what it was when the answers were given; w is what training finds of a
draw against what the sampler found, at most sampler_cap: 1 but for rounding. The loss is a mean over the tokens of the
step. With kl_target the coefficient of the divergence changes after each rollout: it rises where the policy is
farther from its reference than that, in nats an answer, and falls where it is nearer. Take it where a reward model
judges and rewards of siblings tell little; grpo and rloo have less to choose. Source: Schulman et al. 2017
(arXiv:1707.06347), eq. 7 and 9; advantages: Schulman et al. 2016 (arXiv:1506.02438), eq. 16; for language models:
Ziegler et al. 2019 (arXiv:1909.08593), section 2. Log-probabilities are in nats. Errors: DataError for a prompt that
leaves no room for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Models, Term
from ..core.errors import Problem
from ..core.on_policy import OnPolicy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..core.recipe import Phase, Recipe

__all__ = ["PPO"]

_COEFFICIENT = "kl_coefficient"


class PPO(OnPolicy):
    """Learns from rewards with a value model. Reported: rewards, the divergence from the reference in nats an answer
    and its coefficient, the policy's entropy in nats a token, the share of the returns' variance that values explain,
    the mean ratio, the share of tokens that were clipped, and how far sampler and trainer differ.
    """

    example: ClassVar[dict[str, Any]] = {
        "rewards": [{"length": {"words": 12}}],
        "answers": 2,
        "max_new_tokens": 24,
        "kl_target": 4.0,
        "passes": 2,
    }
    answers: int = Field(4, ge=1, description="answers to each prompt, which is read once for all of them")
    kl: float = Field(
        0.05, ge=0, description="how much of a reward each nat away from the model that the phase starts from costs"
    )
    kl_target: float | None = Field(
        None, gt=0, description="nats an answer that the divergence is steered to, by changing kl; default: kl stays"
    )
    kl_gain: float = Field(
        0.1, gt=0, description="how fast: a fifth of this, as a share of kl, is the most that a rollout changes"
    )
    passes: int = Field(4, ge=1, description="how often the steps of a rollout are taken")
    clip: float = Field(0.2, gt=0, lt=1, description="how far a token's probability may go in a rollout's steps")
    gamma: float = Field(1.0, gt=0, le=1, description="what a reward one token later counts, as a share")
    gae_lambda: float = Field(
        0.95, ge=0, le=1, description="1: what really followed; less: what was expected to, with less noise"
    )
    value_weight: float = Field(0.1, gt=0, description="weight of the values' loss beside the policy's")
    value_clip: float | None = Field(0.2, gt=0, description="how far a value may go in a rollout's steps; null: freely")
    value_rate: float = Field(10.0, gt=0, description="the value head's learning rate, as a multiple of the phase's")
    cut_penalty: float = Field(
        0.0, ge=0, description="what is taken from the reward of an answer that was cut before it ended"
    )

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        yield from super().problems(recipe, phase)
        if self.kl_target is not None and self.kl == 0:
            yield Problem(
                f"kl is 0, which kl_target: {self.kl_target:g} cannot change",
                expected="a kl above 0 to begin with",
                remedy="kl: 0.05, or take kl_target out",
            )

    @property
    def own_rate(self) -> float:
        return self.value_rate

    def begin(self, models: Models) -> nn.Module:
        from ..models.value import value_head

        return value_head(models.policy.model)

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.policy_gradient import token_grid

        logps, values = _said(models, batch)
        found = {"old": logps, "values": values}
        if self.refers:
            found["reference"] = models.role("reference").logps(batch)
        return {name: token_grid(value, batch, self.max_new_tokens) for name, value in found.items()}

    def advantages(self, rollout: Mapping[str, Tensor], memory: dict[str, float]) -> Mapping[str, Tensor]:
        from ..functional.advantages import generalized_advantages, next_coefficient, token_rewards, whitened

        there, divergence = _there(rollout), _divergence(rollout)
        coefficient = memory.get(_COEFFICIENT, self.kl)
        worth = rollout["rewards"] - self.cut_penalty * rollout["cut"]
        rewards, values = token_rewards(worth, divergence, there, coefficient), rollout["values"].double()
        found = generalized_advantages(rewards, values, there, self.gamma, self.gae_lambda)
        if self.kl_target is not None:
            away = float(divergence.sum(-1).mean())
            memory[_COEFFICIENT] = next_coefficient(coefficient, away, self.kl_target, self.kl_gain)
        return {"advantages": whitened(found, there), "returns": (found + values) * there}

    def figures(self, rollout: Mapping[str, Tensor], memory: Mapping[str, float]) -> Mapping[str, float]:
        from ..functional.advantages import explained_variance

        there = _there(rollout)
        found = {
            "entropy": float(-rollout["old"][there].double().mean()),  # of what was drawn: right in the mean
            "explained_variance": explained_variance(rollout["values"].double(), rollout["returns"].double(), there),
        }
        if self.refers:
            found["kl"] = float(_divergence(rollout).sum(-1).mean())
            found[_COEFFICIENT] = memory.get(_COEFFICIENT, self.kl)
        return found

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        from ..functional.packing import segment_sum, sequence_index

        tokens = segment_sum(batch.supervised.to(batch.weights), sequence_index(batch.starts), batch.size)
        return {"policy": tokens * batch.weights, "value": tokens * batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.advantages import value_losses
        from ..functional.packing import segment_sum, sequence_index
        from ..functional.policy_gradient import at_tokens, clipped, importance

        logps, values = _said(models, batch)
        old, before, sampled, advantages, returns = (
            at_tokens(batch.fields[name], batch) for name in ("old", "values", "sampled", "advantages", "returns")
        )
        ratio, apart = (logps - old).exp(), old - sampled
        counted = importance(apart, self.sampler_cap)
        row = sequence_index(batch.starts)[batch.supervised]

        def of_rows(found: Tensor) -> Tensor:
            return segment_sum(found.to(logps.dtype), row, batch.size) * batch.weights

        told = {
            "ratio": ratio.detach(),
            "clipped": (ratio < 1 - self.clip) & (advantages < 0) | (ratio > 1 + self.clip) & (advantages > 0),
            "sampler_gap": apart.abs(),
        }
        figures = {name: of_rows(found) for name, found in told.items()}
        return [
            Term("policy", of_rows(counted * clipped(ratio, advantages, self.clip, self.clip)), figures=figures),
            Term("value", of_rows(value_losses(values, before, returns, self.value_clip)), weight=self.value_weight),
        ]


def _said(models: Models, batch: Batch) -> tuple[Tensor, Tensor]:
    """[N] log-probabilities of the answers' tokens, and [N] what was expected before each."""
    assert models.own is not None
    logps, states = models.policy.logps_and_states(batch)
    return logps, models.own(states.float())[:, 0]


def _there(rollout: Mapping[str, Tensor]) -> Tensor:
    """[P, G, L] True at the answers' tokens."""
    import torch

    width = rollout["old"].shape[-1]
    return torch.arange(width) < rollout["tokens"][..., None]


def _divergence(rollout: Mapping[str, Tensor]) -> Tensor:
    """[P, G, L] float64 log pi - log pi_ref of each token that was drawn; 0 without a reference."""
    old = rollout["old"].double()
    return old - rollout["reference"].double() if "reference" in rollout else old * 0
