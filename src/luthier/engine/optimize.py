"""The optimizer's side of a step: float32 masters, clipping, the schedule, and its state as plain tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..core.contracts import Objective, Optimizer, ParameterGroup, Schedule

__all__ = ["Stepper", "own_groups"]


class Stepper:
    """Holds what is trained in float32 and moves it.

    A trainable parameter that is not float32 gets a float32 master: its gradients are added up there as they come, the
    optimizer moves the master, and the parameter is its rounding. Small updates are not lost to bf16 (with bf16
    parameters at 1e-4, three quarters of the entries never move).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        groups: Sequence[ParameterGroup],
        *,
        lr: float,
        total: int,
        clip: float | None,
    ) -> None:
        self.schedule, self.total, self.clip = schedule, total, clip
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        self.masters: list[Tensor] = []
        self.hooks: list[RemovableHandle] = []
        torch_groups: list[dict[str, Any]] = []
        for group in groups:
            first = len(self.names)
            for name, parameter in group.parameters:
                self._add(name, parameter)
            torch_groups.append(
                {
                    "params": self.masters[first:],
                    "lr": lr * group.scale,
                    "weight_decay": optimizer.weight_decay if group.decay else 0.0,
                    "hidden": frozenset(
                        master
                        for name, master in zip(self.names[first:], self.masters[first:], strict=True)
                        if name in group.hidden
                    ),
                }
            )
        self.peaks = [group["lr"] for group in torch_groups]
        self.optimizer = optimizer.make(torch_groups)

    def _add(self, name: str, parameter: nn.Parameter) -> None:
        self.names.append(name)
        self.parameters.append(parameter)
        if parameter.dtype == torch.float32:
            self.masters.append(parameter)
            return
        master = parameter.detach().float().requires_grad_()
        self.masters.append(master)

        def to_master(given: Tensor) -> None:
            assert given.grad is not None
            gradient = given.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            given.grad = None

        # Hooks are only taken by tensors that require a gradient; gradual unfreezing may have this one frozen now.
        frozen = not parameter.requires_grad
        parameter.requires_grad_(True)
        self.hooks.append(parameter.register_post_accumulate_grad_hook(to_master))  # type: ignore[no-untyped-call]
        parameter.requires_grad_(not frozen)

    def gradient_norm(self) -> float:
        """The norm over all trained parameters, before clipping; gradients are scaled to at most `clip`."""
        moving = [master for master in self.masters if master.grad is not None]
        if not moving:
            return 0.0
        limit = self.clip if self.clip is not None else float("inf")
        return float(nn.utils.clip_grad_norm_(moving, limit))

    def step(self, index: int) -> float:
        """Moves the weights at step `index` (from 0); returns the first group's learning rate."""
        factor = self.schedule.at(index, self.total)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.step()
        self._publish()
        self.zero()
        return float(self.optimizer.param_groups[0]["lr"])

    def zero(self) -> None:
        """Lets all gradients go."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            parameter.grad = None
            master.grad = None

    @torch.no_grad()
    def _publish(self) -> None:
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter is not master:
                parameter.copy_(master)

    def release(self) -> None:
        """Lets the parameters go: their gradients stay theirs, and another stepper may move them."""
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()

    def weights(self) -> dict[str, Tensor]:
        """The float32 masters by parameter name."""
        return {name: master.detach() for name, master in zip(self.names, self.masters, strict=True)}

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Puts back what `weights` gave, into masters and parameters."""
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(weights[name])
        self._publish()

    def state(self) -> dict[str, Tensor]:
        """The optimizer's tensors, named `parameter/moment`."""
        found: dict[str, Tensor] = {}
        for name, master in zip(self.names, self.masters, strict=True):
            for key, value in self.optimizer.state.get(master, {}).items():
                if isinstance(value, Tensor):
                    found[f"{name}/{key}"] = value
        return found

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `state` gave; torch's own load would cast moments to the parameter's dtype."""
        masters = dict(zip(self.names, self.masters, strict=True))
        # torch counts steps on the CPU unless the optimizer is fused or captured, and refuses them elsewhere.
        beside = any(self.optimizer.defaults.get(name) for name in ("fused", "capturable"))
        for key, value in tensors.items():
            name, _, moment = key.rpartition("/")
            device = masters[name].device if beside or moment != "step" else torch.device("cpu")
            self.optimizer.state[masters[name]][moment] = value.to(device, copy=True)


def own_groups(objective: Objective, own: nn.Module | None) -> list[ParameterGroup]:
    """What an objective trains beside the model (`Objective.begin`), none of it decayed; empty where there is none."""
    if own is None:
        return []
    named = [(f"objective.{name}", parameter) for name, parameter in own.named_parameters()]
    return [ParameterGroup("objective", named, scale=objective.own_rate, decay=False)]
