"""The lines that a run prints while it trains."""

from __future__ import annotations

import pytest

from luthier.cli.progress import Console

STEP = {"phase": "p", "step": 2, "total": 2, "tokens_per_s": 93.2, "memory_gb": 1.3}


def test_what_a_step_was_worth_stands_beside_its_loss(capsys: pytest.CaptureFixture[str]) -> None:
    """The loss of policy gradients is near 0 whatever happens; a rounded loss has no sign."""
    console = Console(plain=True)
    console(STEP | {"event": "step", "loss": -0.0001, "figures": {"reward": 0.25, "kl": 0.014, "cut": 1.0}})
    console({"event": "validation", "step": 2, "loss": -0.0, "best": True, "figures": {"reward": 0.0}})
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("  step 2/2  loss 0.000  reward 0.25  kl 0.01  93 tokens/s")
    assert said[1] == "  step 2: validation loss 0.0000  reward 0.00 best"
