"""The report's answers while learning: of the attempt that counts, the best first, and hostile ones stay text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from luthier.report.page import write_report
from luthier.report.record import read_record

HOSTILE = "<script>alert(1)</script>"


def rollout(step: int, *rewards: float) -> dict[str, Any]:
    answers = [{"text": f"{HOSTILE} {step} {reward}", "reward": reward} for reward in rewards]
    samples = [{"row": "r:1", "prompt": "Is it late?", "answers": answers}]
    figures = {"reward": sum(rewards) / len(rewards)}
    return {"time": 1, "event": "rollout", "phase": "rl", "step": step, "figures": figures, "samples": samples}


def step(number: int) -> dict[str, Any]:
    return {"time": 1, "event": "step", "phase": "rl", "step": number, "loss": 0.5, "figures": {"reward": 0.5}}


def test_rollouts_are_shown_with_rewards_and_those_of_a_lost_attempt_are_not(tmp_path: Path) -> None:
    lost = [rollout(2, 0.9), step(2)]
    events = [rollout(1, 0.25, 0.75), step(1), *lost, rollout(2, 0.5, 0.625), step(2), step(3)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    (curve,) = read_record(tmp_path).curves
    assert [event["step"] for event in curve.rollouts] == [1, 2]
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert HOSTILE not in text
    first, second = text.index("1 0.75"), text.index("1 0.25")
    assert first < second, "the best answer first"
    assert "reward 0.625" in text
    assert "2 0.9" not in text
