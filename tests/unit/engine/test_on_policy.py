"""Which fit it is: what rewards go by is a part of it, and what they do not go by is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthier.core.component import build
from luthier.core.example import Example, Origin, turns
from luthier.core.on_policy import OnPolicy
from luthier.engine.on_policy import _rewarded

ROW = Example("r:1", {"messages": turns(("user", "3 + 4?"), ("assistant", "7"))}, Origin("r.jsonl", 1))


def digest(rewards: list[Any], row: Example = ROW, split: str = "train", **places: str) -> str:
    objective = build("objectives", {"grpo": {"rewards": rewards}})
    assert isinstance(objective, OnPolicy)
    return _rewarded(objective, {split: [row]}, places)


def test_the_reference_answer_counts_and_its_place_in_a_file_does_not() -> None:
    mended = replace(ROW, parts={"messages": turns(("user", "3 + 4?"), ("assistant", "8"))})
    assert digest(["equals"], mended) != digest(["equals"])
    assert digest(["equals"], mended, "validation") != digest(["equals"], split="validation")
    assert digest(["equals"], mended, "test") == digest(["equals"], split="test")
    assert digest(["equals"], replace(ROW, origin=Origin("moved.jsonl", 7))) == digest(["equals"])


@pytest.mark.parametrize("file", ["checks.py", "checks/__init__.py"])
def test_a_function_that_was_mended_counts(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(file).parent.mkdir(exist_ok=True)
    rewards = [{"function": {"path": "checks:is_right"}}]
    found = []
    for text in ("def is_right(*said): return 0", "def is_right(*said): return 1"):
        Path(file).write_text(text)
        found.append(digest(rewards))
    assert len({*found, digest([{"function": {"path": "elsewhere:is_right"}}])}) == 3


def test_a_reward_model_counts_by_what_is_in_its_folder(tmp_path: Path) -> None:
    """Whether it is named by its folder, or is an earlier phase."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    outside, phase = [{"model": {"source": str(tmp_path)}}], [{"model": {"source": "reward"}}]
    before = digest(outside), digest(phase, reward=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"another")
    assert digest(outside) != before[0]
    assert digest(phase, reward=str(tmp_path)) != before[1]
