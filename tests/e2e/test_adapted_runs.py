"""Whole runs with adaptations that lie beside their base, and over a base in few bits."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import chat_records, lm_recipe, write_jsonl

from luthier import Recipe, run
from luthier.cli.main import main
from luthier.models.load import load_model

CASES = {
    "prompt": ({"prompt": {"length": 4}}, "prompt"),
    "prefix": ({"prefix": {"length": 4}}, "prefix"),
    "int4": ({"lora": {"rank": 4, "base": "int4", "init": "pissa"}}, None),
    "ia3": ({"peft": {"method": "ia3"}}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_ends_in_a_model_that_answers(
    name: str, llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exported folder answers as the tuned model does, whether the adaptation is folded in or lies beside."""
    adaptation, carried = CASES[name]
    data = write_jsonl(tmp_path / "rows.jsonl", chat_records(24))
    value = lm_recipe(llama_folder, data, adaptation=adaptation, epochs=1)
    value["checks"], value["gates"] = ["perplexity", "parity"], []
    done = run(Recipe.of(value), out=tmp_path / "run")
    apart = [f for f in done.findings if f.check == "parity" and f.metric == "max_difference"]
    assert apart
    assert all(finding.value < 5e-5 for finding in apart), apart
    found = load_model(str(tmp_path / "run" / "model"), "causal_lm")
    assert found.carried == carried
    main(["generate", str(tmp_path / "run"), "Number 3: the bow?"])
    assert capsys.readouterr().out
