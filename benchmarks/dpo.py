"""DPO with LoRA on a 135M Llama shape: pairs a second and peak memory, ours beside TRL's DPOTrainer.

    python -m benchmarks.dpo [--quick] [--json FILE]

Both sides train over the same pairs in the same order, each in a process of its own, ours and the peer's in turn. What
the reference costs is counted on both sides: ours is asked once before the first step (and what it says is written to a
file, as a run keeps it), the peer's in its own such pass or in each step with the adapter off. The first steps, which
hold the longest pairs and touch their memory for the first time, are not timed. Rates are by processor time, and by
wall time too where no run was kept waiting.

Two comparisons: "as a user gets it", with what each side chooses by itself, and "like for like", with bf16 weights, the
same allocator thresholds, the same threads and no recomputation. There the peer is called in its fastest way, which the
rows name: with the batch that is fastest over the very pairs that are compared, from one pair on and as large as memory
allows, with its bf16 autocast or without, and with its own pass of the reference or without; ours keeps 16 pairs a
step. Since memory is compared too, ours is measured once more in micro-batches (machine.micro_tokens) that hold about
what one pair of the peer's does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks._dpo_sides import SETTLED, write_words
from benchmarks._search import best_size
from benchmarks._turns import ALLOCATOR, quiet
from benchmarks._workload import ceiling, write_model
from benchmarks.record import Measured, finish

__all__ = ["Way", "best_way", "compare", "main", "rows_of"]

ROOT = Path(__file__).parent.parent
PAIRS, FEW = SETTLED + 64, SETTLED + 32
FASTER, SMALLER = 4.0, 1 / 0.6
Result = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How a side is called: pairs a step; of the peer its autocast, and whether the reference has a pass of its own; of
    ours the tokens of a micro-batch (None: what it chooses).
    """

    batch: int
    autocast: bool = True
    precompute: bool = False
    micro_tokens: int | None = None


USUAL = {"ours": Way(16), "other": Way(8)}
"""Ours with a usual number of pairs; the peer's own default."""
SMALL = Way(16, micro_tokens=512)
"""Ours in less memory."""


def measure(side: str, model: Path, *, pairs: int, way: Way, alike: bool) -> Result:
    """One side's run in a process of its own. Errors: SystemExit with the end of its output when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "result.json"
        settings = {"side": side, "model": str(model), "pairs": pairs, "alike": alike, "into": str(into), **asdict(way)}
        threads = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        if alike:
            environment |= {**ALLOCATOR, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-m", "benchmarks._dpo_sides", json.dumps(settings)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not into.is_file():
            raise SystemExit(f"the side {side} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
        result: Result = json.loads(into.read_text(encoding="utf-8"))
    print(
        f"  {side:5} batch {way.batch:3}: {result['pairs_per_s']:6.3f} pairs/s, {result['peak_gb']:.2f} GB, "
        f"first loss {result['first_loss']:.4f}, {result['steps']} steps, {result['dtype']}",
        flush=True,
    )
    return result


def best_way(model: Path) -> Way:
    """The peer's fastest way, like for like, by processor time: the batch, then autocast, then the reference's pass.

    Every batch down to one pair is tried: a smaller one pads less, so that a way may lead through worse to better.
    """
    tried: dict[Way, Result] = {}

    def seconds(way: Way) -> float:
        if way not in tried:
            tried[way] = measure("other", model, pairs=max(PAIRS, 3 * way.batch), way=way, alike=True)
        return 1 / float(tried[way]["pairs_per_cpu_s"])

    usual = USUAL["other"]

    def allowed(batch: int) -> bool:
        half = tried.get(replace(usual, batch=batch // 2))
        return half is None or 2e9 * half["peak_gb"] < psutil.virtual_memory().available

    def seconds_of(batch: int) -> float:
        return seconds(replace(usual, batch=batch))

    start = min((usual.batch >> half for half in range(usual.batch.bit_length())), key=seconds_of)
    best = replace(usual, batch=best_size(start, seconds_of, allowed))
    best = min((best, replace(best, autocast=False)), key=seconds)
    return min((best, replace(best, precompute=True)), key=seconds)


def compare(model: Path, *, pairs: int, turns: int, ways: Mapping[str, Way], alike: bool) -> list[dict[str, Result]]:
    """Turns of all ways, over the same pairs; who goes first changes. "other" is the peer, the rest is ours."""
    pairs = max(pairs, 3 * ways["other"].batch)  # two steps to settle, and one to time
    found = []
    for turn in range(turns):
        order = list(ways) if turn % 2 == 0 else list(ways)[::-1]
        results = {}
        for name in order:
            side = "other" if name == "other" else "ours"
            results[name] = measure(side, model, pairs=pairs, way=ways[name], alike=alike)
            refuse_unlike(name, results[name])
        found.append(results)
    return found


def refuse_unlike(side: str, result: Mapping[str, Any]) -> None:
    """The first step knows no difference to the reference. Errors: SystemExit where a side's first loss is not ln 2."""
    if abs(result["first_loss"] - math.log(2)) > 0.02:
        raise SystemExit(f"the first loss of {side} is {result['first_loss']:.4f}, not ln 2: it does other work")


def rows_of(
    name: str,
    turns: Sequence[Mapping[str, Result]],
    best: float,
    faster: float | None = None,
    smaller: float | None = None,
) -> list[Measured]:
    """The comparison's lines: rates, memory, and the share of the ceiling `best` (operations/s)."""

    def middle(side: str, key: str) -> float:
        return float(statistics.median(turn[side][key] for turn in turns))

    def spread(values: Sequence[float]) -> tuple[float, float, float]:
        return statistics.median(values), min(values), max(values)

    def rates(unit: str, key: str) -> Measured:
        ratios = [turn["ours"][key] / turn["other"][key] for turn in turns]
        return Measured(f"{name}: {unit}", middle("ours", key), middle("other", key), *spread(ratios), faster)

    undisturbed = all(quiet([run], run["threads"]) for turn in turns for run in turn.values())
    memory = [turn["other"]["peak_gb"] / turn["ours"]["peak_gb"] for turn in turns]
    shares = [turn["ours"]["operations_per_s"] / best for turn in turns]
    return [
        rates("pairs per processor second", "pairs_per_cpu_s"),
        *([rates("pairs/s", "pairs_per_s")] if undisturbed else []),
        Measured(
            f"{name}: peak memory, GB (value: other over ours)",
            middle("ours", "peak_gb"),
            middle("other", "peak_gb"),
            *spread(memory),
            smaller,
        ),
        Measured(
            f"{name}: share of the ceiling of {best / 1e9:.0f} GFLOP/s, each prompt counted twice (value: ours)",
            statistics.median(shares),
            middle("other", "operations_per_s") / best,
            *spread(shares),
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="DPO with LoRA beside TRL: pairs a second and peak memory.")
    parser.add_argument("--quick", action="store_true", help="one turn on fewer pairs, no search for the peer's way")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    pairs, turns = (FEW, 1) if given.quick else (PAIRS, 3)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        write_model(model)
        write_words(model)
        best = ceiling()
        print("as a user gets it", flush=True)
        usual = compare(model, pairs=pairs, turns=turns, ways=USUAL, alike=False)
        print("like for like", flush=True)
        other = replace(USUAL["other"], autocast=False) if given.quick else best_way(model)
        ways = {"ours": USUAL["ours"], "other": other, "small": SMALL}
        alike = compare(model, pairs=pairs, turns=turns, ways=ways, alike=True)
        small = [{**turn, "ours": turn["small"]} for turn in alike]
        best = max(best, ceiling())
    autocast, reference = "with" if other.autocast else "without", "before" if other.precompute else "in"
    name = f"like for like (other: batches of {other.batch}, {autocast} autocast, reference {reference} its steps)"
    floors = (None, None) if given.quick else (FASTER, SMALLER)
    return finish(
        [
            *rows_of("as a user gets it", usual, best, floors[0]),
            *rows_of(name, alike, best, *floors),
            *rows_of(f"{name}, ours in micro-batches of {SMALL.micro_tokens} tokens", small, best),
        ],
        given.json,
    )


if __name__ == "__main__":
    sys.exit(main())
