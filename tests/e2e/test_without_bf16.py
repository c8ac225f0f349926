"""A processor whose bf16 products are slow is served in float32, by measuring and not by a list of processors.

Such processors are made of this one: oneDNN, which computes torch's products, and torch's own kernels are told of
fewer instructions than there are. Where the processor has none of them anyway, the same holds.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_runs import chat_records, lm_recipe, write_jsonl

from luthier.core.run import read_events

PROCESSORS = {
    "AVX-512 without bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="oneDNN's instructions can be forbidden on x86 only"
)
@pytest.mark.parametrize("forbids", PROCESSORS.values(), ids=PROCESSORS)
def test_a_run_on_a_processor_without_bf16_is_in_float32_and_ends_well(
    forbids: dict[str, str], llama_folder: Path, tmp_path: Path
) -> None:
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records(20))
    recipe = lm_recipe(llama_folder, data, checks=["perplexity"], epochs=2, machine={"dtype": "auto"})
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "luthier.cli.main", "run", "small.yaml", "--out", "run"],
        cwd=tmp_path,
        env=os.environ | forbids,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    machine = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["machine"]
    assert machine["dtype"] == "float32"
    assert "bf16 products run" in machine["because"], "measured, not looked up"
    losses = [event["loss"] for event in read_events(tmp_path / "run" / "events.jsonl") if event["event"] == "step"]
    assert losses[-1] < losses[0]
    assert (tmp_path / "run" / "report.html").is_file()
