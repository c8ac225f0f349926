"""The mean of a policy's weights over the steps, as a role beside it: a teacher that follows its student."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.contracts import Models, Role
from ..models.roles import Models as Roles
from ..models.roles import role_of
from .optimize import Stepper
from .rollout import frozen_copy

__all__ = ["Average"]


class Average:
    """A copy of the policy whose weights become decay x their own + (1 - decay) x the policy's after each step.

    In the first steps, as long as that keeps less, it is the plain mean of the start and all steps (Tarvainen and
    Valpola 2017, arXiv:1703.01780, section 3.4). Held in float32, whatever the model has; what never moves is shared.
    """

    def __init__(self, policy: Role, stepper: Stepper, decay: float) -> None:
        known: Any = policy
        self.stepper, self.decay = stepper, decay
        copy = frozen_copy(policy.model, stepper.parameters)
        self.role = role_of(copy, known.pad, known.pooling)
        names = {id(parameter): name for name, parameter in policy.model.named_parameters()}
        there = dict(copy.named_parameters())
        # What an objective trains of its own is none of the model's.
        self._at = {
            name: there[names[id(parameter)]]
            for name, parameter in zip(stepper.names, stepper.parameters, strict=True)
            if id(parameter) in names
        }
        self._means = {name: master.clone() for name, master in stepper.weights().items() if name in self._at}

    @property
    def models(self) -> Models:
        """The mean in the policy's place, as it is measured."""
        return Roles(self.role)

    def beside(self, models: Models) -> Models:
        """The roles of a phase, with this one as their `average`."""
        return Roles(models.policy, {"average": self.role}, models.own)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Takes the policy's weights in, after step `step` (from 0)."""
        keep = min(self.decay, 1 - 1 / (step + 2))
        for name, weights in self.stepper.weights().items():
            if name in self._means:
                self._means[name].lerp_(weights, 1 - keep)
        self._publish()

    def weights(self) -> dict[str, Tensor]:
        """The float32 means by parameter name; of what is no part of the model, the stepper's own."""
        return {**self.stepper.weights(), **self._means}

    @torch.no_grad()
    def load(self, means: dict[str, Tensor]) -> None:
        """Puts back what `weights` gave."""
        for name, mean in self._means.items():
            mean.copy_(means[name])
        self._publish()

    def _publish(self) -> None:
        for name, mean in self._means.items():
            self._at[name].copy_(mean)
