"""What a run costs: tokens, seconds in steps, tokens a second, peak memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ..core.peak import peak_resident

__all__ = ["Meter", "peak_memory_gb"]


def peak_memory_gb(device: torch.device | None = None) -> float:
    """Peak memory in GB (10^9 bytes): of the device on CUDA, else the process's resident peak."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return peak_resident() / 1e9


@dataclass
class Meter:
    """Adds up useful (non-padding) tokens and the seconds spent in steps; the rate is over the last 20 steps.

    parts: seconds of all steps by what took them, on the CPU: data (waiting for batches), forward, backward, optimizer,
    and the rest, so that they add up to `seconds`. A device that works on its own would have to be waited for: there a
    part holds what the CPU spent on handing over work, and the rest the wait for a step's loss.
    """

    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    _recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=20))
    _started: float = 0.0
    _before: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Begins a step."""
        self._before = dict(self.parts)
        self._started = time.perf_counter()

    def stop(self, tokens: int, supervised: int) -> dict[str, float]:
        """Ends the step that saw so many tokens; its seconds: of each part, the rest, and of the whole `step`."""
        spent = time.perf_counter() - self._started
        step = {name: seconds - self._before.get(name, 0.0) for name, seconds in self.parts.items() if name != "rest"}
        step["rest"] = spent - sum(step.values())
        self.parts["rest"] = self.parts.get("rest", 0.0) + step["rest"]
        self.tokens += tokens
        self.supervised += supervised
        self.seconds += spent
        self._recent.append((tokens, spent))
        return step | {"step": spent}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts what happens inside to a part of the steps: data, forward, backward, optimizer."""
        began = time.perf_counter()
        yield
        self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - began

    @property
    def rate(self) -> float:
        """Tokens a second over the last steps."""
        seconds = sum(spent for _, spent in self._recent)
        return sum(tokens for tokens, _ in self._recent) / seconds if seconds else 0.0
