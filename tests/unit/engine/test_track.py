"""TensorBoard: what a rollout tells is a figure of its steps, and no validation's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luthier.engine.track import TensorBoard


class Heard:
    """What was written, by tag."""

    def __init__(self) -> None:
        self.known: dict[str, float] = {}

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.known[tag] = value


def test_figures_are_of_steps_and_validations(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = TensorBoard(tmp_path)
    board.close()
    heard: Any = Heard()
    board._writer = heard
    plain = dict.fromkeys(("loss", "lr", "grad_norm", "tokens_per_s", "memory_gb"), 0.5)
    board({"event": "rollout", "phase": "rl", "step": 1, "figures": {"reward": 0.25}})
    assert heard.known == {}
    board({"event": "step", "phase": "rl", "step": 1, **plain, "figures": {"reward": 0.25}})
    board({"event": "validation", "phase": "rl", "step": 1, "loss": -0.75, "figures": {"reward": 0.75}})
    assert (heard.known["rl/reward"], heard.known["rl/validation_reward"]) == (0.25, 0.75)
