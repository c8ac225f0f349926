"""The report's answers while learning: of the attempt that counts, the best first, and hostile ones stay text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from luthier.report.page import write_report
from luthier.report.record import read_record

HOSTILE = "<script>alert(1)</script>"


class Written:
    """A run's events, and beside them what its phase "rl" answered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.events, self.samples = folder, list[Any](), list[Any]()

    def rollout(self, step: int, *rewards: float) -> None:
        figures = {"reward": sum(rewards) / len(rewards)}
        answers = [{"text": f"{HOSTILE} {step} {reward}", "reward": reward} for reward in rewards]
        shown = [{"row": "r:1", "prompt": "Is it late?", "answers": answers}]
        time = len(self.events)
        self.events.append({"time": time, "event": "rollout", "phase": "rl", "step": step, "figures": figures})
        self.samples.append({"time": time, "event": "samples", "step": step, "samples": shown})

    def step(self, number: int) -> None:
        told = {"event": "step", "phase": "rl", "step": number, "loss": 0.5, "figures": {"reward": 0.5}}
        self.events.append({"time": len(self.events), **told})

    def write(self) -> None:
        phase = self.folder / "phases" / "2-rl"
        phase.mkdir(parents=True)
        for file, records in ((self.folder / "events.jsonl", self.events), (phase / "rollouts.jsonl", self.samples)):
            file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        (self.folder / "manifest.json").write_text("{}", encoding="utf-8")


def test_rollouts_are_shown_with_rewards_and_those_of_a_lost_attempt_are_not(tmp_path: Path) -> None:
    run = Written(tmp_path)
    run.rollout(1, 0.25, 0.75)
    run.step(1)
    for reward in (0.9, 0.625):  # step 2 was lost, and made again
        run.rollout(2, 0.5, reward)
        run.step(2)
    run.step(3)
    run.write()
    (curve,) = read_record(tmp_path).curves
    assert [event["step"] for event in curve.rollouts] == [1, 2]
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert HOSTILE not in text
    first, second = text.index("1 0.75"), text.index("1 0.25")
    assert first < second, "the best answer first"
    assert "reward 0.625" in text
    assert "2 0.9" not in text


def test_without_the_answers_the_report_is_there_all_the_same(tmp_path: Path) -> None:
    """Whoever shows a run to others may leave them out."""
    run = Written(tmp_path)
    run.rollout(1, 0.25, 0.75)
    run.step(1)
    run.write()
    (tmp_path / "phases" / "2-rl" / "rollouts.jsonl").unlink()
    assert "Answers while learning" not in write_report(tmp_path).read_text(encoding="utf-8")
