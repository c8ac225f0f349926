"""What memory decides in whole runs: gradient checkpointing by name and by need, and what the next run begins with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import chat_records, class_recipe, label_records, lm_recipe, write_jsonl

import luthier
from luthier.core.files import sha256_of
from luthier.core.run import read_events
from luthier.engine import remembered, room


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def recipe(llama_folder: Path, tmp_path: Path) -> dict[str, Any]:
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records(24))
    return lm_recipe(llama_folder, data, steps=3, dropout=0.1, adaptation={"lora": {"rank": 4, "dropout": 0.1}})


def trained(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "manifest.json").read_text())["training"]["sft"]
    return value


def weights(run: Path) -> list[str]:
    return [sha256_of(file) for file in sorted(run.glob("phases/*/result/*.safetensors"))]


def texts(run: Path) -> list[str]:
    return [event["text"] for event in read_events(run / "events.jsonl") if "text" in event]


def test_a_run_with_gradient_checkpointing_ends_in_the_same_bytes_and_says_so(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    plain = luthier.run(recipe, out=tmp_path / "plain", until="train").folder
    named = luthier.run(recipe, ["machine.gradient_checkpointing=yes"], out=tmp_path / "named", until="train").folder
    assert trained(plain)["gradient_checkpointing"]["on"] is False
    assert trained(plain)["gradient_checkpointing"]["because"].endswith("GB without it")
    assert trained(named)["gradient_checkpointing"] == {"on": True, "because": "named in the recipe"}
    assert "gradient checkpointing is on: named in the recipe" in texts(named)
    assert len(weights(plain)) == 1
    assert weights(named) == weights(plain)


def test_a_machine_that_is_too_small_recomputes_by_itself(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "memory_of", lambda device: 10**5)
    small = luthier.run(recipe, out=tmp_path / "small", until="train").folder
    found = trained(small)
    assert found["gradient_checkpointing"] == {"on": True, "because": "0.0 of 0.0 GB without it"}
    assert found["micro_tokens"] == 1024


def test_changing_the_option_does_not_train_again(recipe: dict[str, Any], tmp_path: Path) -> None:
    """It changes no number, so a stage that is finished stays finished."""
    luthier.run(recipe, out=tmp_path / "run", until="train")
    luthier.run(recipe, ["machine.gradient_checkpointing=yes"], out=tmp_path / "run", until="train")
    kept = [event["stage"] for event in read_events(tmp_path / "run" / "events.jsonl") if event.get("state") == "kept"]
    assert "train sft" in kept


def test_the_next_run_begins_with_what_fitted(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.engine import fit

    learning = fit.accumulate

    def short(objective: Any, penalties: Any, models: Any, batches: Any, *rest: Any) -> Any:
        if max(batch.ids.numel() for batch in batches) > 100:
            raise MemoryError
        return learning(objective, penalties, models, batches, *rest)

    monkeypatch.setattr(fit, "accumulate", short)
    first = luthier.run(recipe, out=tmp_path / "first", until="train").folder
    assert any("out of memory" in text for text in texts(first))
    second = luthier.run(recipe, out=tmp_path / "second", until="train").folder
    assert not any("out of memory" in text for text in texts(second))
    assert trained(second)["micro_tokens"] == trained(first)["micro_tokens"] <= 128
    assert [remembered.place().name in text for text in texts(first) + texts(second)].count(True) == 1
    assert any(str(remembered.place()) in text for text in texts(second))
    assert weights(second) == weights(first)


def test_a_frozen_body_begins_as_it_is_remembered_too(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base of a classifier is a fit of its own."""
    value = class_recipe(bert_folder, write_jsonl(tmp_path / "l.jsonl", label_records(30)), steps=2)
    asked: list[str] = []
    monkeypatch.setattr(room, "remembered", lambda what: asked.append(what) or 64)
    luthier.run({**value, "checks": ["classification"]}, out=tmp_path / "run", until="base")
    assert len(asked) == 1
    assert '"head"' in asked[0]
    begun = json.loads((tmp_path / "run/phases/0-base/checkpoints/begun.json").read_text())
    assert begun["micro_tokens"] == 64
    assert remembered.remembered(asked[0]) is None


def test_a_run_begins_with_the_allocator_told(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr("luthier.engine.device.keep_memory", lambda: told.append(True))
    luthier.run(recipe, out=tmp_path / "run", until="prepare")
    assert told == [True]
