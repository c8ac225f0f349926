"""GRPO on the embedded model: steps a second and peak memory, ours beside TRL's GRPOTrainer.

    python -m benchmarks.grpo [--quick] [--json FILE]

A step answers 8 letters 8 times each with at most 64 tokens, rewards the answers by a rule, and learns full weights
from them, without a reference. Both sides sample at temperature 1 from the same model; the peer generates with
transformers. Each side runs in a process of its own, in turn, with the same threads; its first step is not timed. Rates
are by processor time, and by wall time too where no run was kept waiting.

Ours takes the dtype that pays on the machine. Two comparisons: "as a user gets it", the peer with what it chooses by
itself (float32 weights, its bf16 autocast, recomputation), and "like for like", where it recomputes nothing and is
called in its fastest way, which the rows name: with weights in float32 or bf16, with its autocast or without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._turns import ALLOCATOR, quiet
from benchmarks.record import Measured, finish

__all__ = ["main", "refuse_unlike", "rows_of"]

ROOT = Path(__file__).parent.parent
SIDES = ("ours", "other")
FASTER = 4.0
FULL = {"prompts": 8, "answers": 8, "new_tokens": 64, "steps": 6}
QUICK = {"prompts": 2, "answers": 4, "new_tokens": 16, "steps": 3}
USUAL = {"alike": False, "dtype": "float32", "autocast": True}
"""What the peer chooses by itself."""
ALIKE = {"dtype": "bfloat16", "autocast": True}
Result = dict[str, Any]


def measure(side: str, settings: Mapping[str, Any]) -> Result:
    """One side's run in a process of its own. Errors: SystemExit with the end of its output when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "result.json"
        given = json.dumps({**settings, "side": side, "into": str(into)})
        threads = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads}
        if settings["alike"]:
            environment |= ALLOCATOR
        command = [sys.executable, "-m", "benchmarks._grpo_sides", given]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not into.is_file():
            raise SystemExit(f"the side {side} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
        result: Result = json.loads(into.read_text(encoding="utf-8"))
    print(
        f"  {side:5} {result['steps_per_cpu_s']:6.3f} steps per processor second, {result['peak_gb']:.2f} GB, "
        f"{result['answer_tokens']:.1f} tokens an answer, {result['dtype']}",
        flush=True,
    )
    return result


def fastest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The peer's fastest way, like for like, by processor time."""
    ways = [{"dtype": dtype, "autocast": autocast} for dtype in ("float32", "bfloat16") for autocast in (True, False)]
    return min(ways, key=lambda way: 1 / measure("other", {**settings, **way, "alike": True})["steps_per_cpu_s"])


def compare(settings: Mapping[str, Any], turns: int, *, refuse: bool) -> list[dict[str, Result]]:
    """Turns of both sides; who goes first changes with each."""
    found = []
    for number in range(turns):
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        found.append({side: measure(side, settings) for side in order})
        if refuse:
            refuse_unlike(found[-1])
    return found


def refuse_unlike(turn: Mapping[str, Result]) -> None:
    """Errors: SystemExit where the sides' answers differ in length by a quarter: one does other work."""
    ours, other = (turn[side]["answer_tokens"] for side in SIDES)
    if abs(ours - other) > max(ours, other) / 4:
        raise SystemExit(f"answers of {ours:.1f} and {other:.1f} tokens: the sides do other work")


def rows_of(about: str, turns: Sequence[Mapping[str, Result]], faster: float | None) -> list[Measured]:
    """Rates and memory of both sides, and their ratios over the turns."""

    def row(name: str, key: str, ratios: Sequence[float], floor: float | None) -> Measured:
        ours, other = (float(statistics.median(turn[side][key] for turn in turns)) for side in SIDES)
        return Measured(f"{about}: {name}", ours, other, statistics.median(ratios), min(ratios), max(ratios), floor)

    def rate(name: str, key: str) -> Measured:
        return row(name, key, [turn["ours"][key] / turn["other"][key] for turn in turns], faster)

    undisturbed = all(quiet([run], run["threads"]) for turn in turns for run in turn.values())
    memory = [turn["other"]["peak_gb"] / turn["ours"]["peak_gb"] for turn in turns]
    return [
        rate("steps per processor second", "steps_per_cpu_s"),
        *([rate("steps/s", "steps_per_s")] if undisturbed else []),
        row("peak memory, GB (value: other over ours)", "peak_gb", memory, None),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="GRPO beside TRL: steps a second and peak memory.")
    parser.add_argument("--quick", action="store_true", help="one turn of few short answers; no floor is held")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    settings, count = (QUICK, 1) if given.quick else (FULL, 3)
    print("as a user gets it", flush=True)
    usual = compare({**settings, **USUAL}, count, refuse=not given.quick)
    print("like for like", flush=True)
    way = ALIKE if given.quick else fastest(settings)
    alike = compare({**settings, **way, "alike": True}, count, refuse=not given.quick)
    name = f"like for like (other: {alike[0]['other']['dtype']})"
    floor = None if given.quick else FASTER
    return finish([*rows_of("as a user gets it", usual, floor), *rows_of(name, alike, floor)], given.json)


if __name__ == "__main__":
    sys.exit(main())
