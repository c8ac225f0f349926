"""Training of a 135M Llama shape: useful tokens a second and peak memory, ours beside TRL's trainer.

Both sides train over the same rows in the same order, each in a process of its own, ours and the peer's in turn. Useful
tokens are those that are not padding; the first steps, which touch their memory for the first time, are not timed.

Two comparisons: "as a user gets it", with what each side chooses by itself, and "like for like", with bf16 weights, the
same allocator thresholds, the same threads, no recomputation, and for each side the batch that was fastest of a few.
(In full training our side then still holds float32 masters and moments, the peer's both in bf16.) The ceiling is the
best square bf16 product in the same run; its share counts 4 operations (6 in full training) a body parameter and token,
and as many an entry of the output layer and learned token.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._workload import WARM, ceiling, write_model
from benchmarks.record import Measured, finish

__all__ = ["Floors", "main_of", "rows_of"]

ROOT = Path(__file__).parent.parent
SIDES = {"ours": "benchmarks._ours", "other": "benchmarks._peer_trl"}
USUAL = {"ours": 4096, "other": 8}
"""Each side's own default: our tokens a step, the peer's rows."""
TRIED = {"ours": (1024, 2048, 4096), "other": (4, 8, 16)}
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**26)}
"""Thresholds that keep the C library from giving large tensors back to the system and touching them anew."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Floors:
    """What must be reached: times the peer's rate by each side's defaults and like for like, share of the ceiling, and
    the peer's memory over ours like for like.
    """

    usual: float
    alike: float
    share: float
    memory: float


def measure(side: str, model: Path, *, kind: str, rows: int, batch: int, alike: bool) -> Result:
    """One side's run in a process of its own. Errors: SystemExit with the end of its output when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "result.json"
        settings = {"model": str(model), "kind": kind, "rows": rows, "batch": batch, "alike": alike, "into": str(into)}
        threads = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        if alike:
            environment |= {**ALLOCATOR, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-m", SIDES[side], json.dumps(settings)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not into.is_file():
            raise SystemExit(f"{SIDES[side]} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
        result: Result = json.loads(into.read_text(encoding="utf-8"))
    print(
        f"  {side:5} batch {batch:4}: {result['tokens_per_s']:7.1f} tokens/s, {result['peak_gb']:.2f} GB, "
        f"first loss {result['first_loss']:.3f}, {result['steps']} steps, {result['dtype']}",
        flush=True,
    )
    return result


def fastest(side: str, model: Path, kind: str, rows: int) -> int:
    """The batch of TRIED at which the side is fastest, like for like."""
    rates = {
        batch: measure(side, model, kind=kind, rows=rows, batch=batch, alike=True)["tokens_per_s"]
        for batch in TRIED[side]
    }
    return max(rates, key=lambda batch: rates[batch])


def compare(
    model: Path, *, kind: str, rows: int, pairs: int, batches: Mapping[str, int], alike: bool
) -> list[dict[str, Result]]:
    """Pairs of runs, ours and the peer's in turn; who goes first changes with each pair."""
    found = []
    for pair in range(pairs):
        order = tuple(SIDES) if pair % 2 == 0 else tuple(reversed(SIDES))
        found.append(
            {side: measure(side, model, kind=kind, rows=rows, batch=batches[side], alike=alike) for side in order}
        )
        if batches["other"] == WARM:
            refuse_unlike(found[-1])
    return found


def refuse_unlike(pair: Mapping[str, Result]) -> None:
    """Where both first steps hold the same rows, their losses must agree: otherwise the sides do different work.

    Errors: SystemExit when they are more than 0.01 nats a token apart (bf16 rounding was measured at 0.0001).
    """
    ours, other = pair["ours"]["first_loss"], pair["other"]["first_loss"]
    if abs(ours - other) > 0.01:
        raise SystemExit(f"the first step's loss is {ours:.4f} for ours and {other:.4f} for the peer on the same rows")


def rows_of(
    name: str,
    pairs: Sequence[Mapping[str, Result]],
    best: float,
    *,
    faster: float | None = None,
    smaller: float | None = None,
    share: float | None = None,
) -> list[Measured]:
    """The comparison's lines with their floors: rate, memory, and the share of the ceiling `best` (operations/s)."""

    def middle(side: str, key: str) -> float:
        return float(statistics.median(pair[side][key] for pair in pairs))

    rates = [pair["ours"]["tokens_per_s"] / pair["other"]["tokens_per_s"] for pair in pairs]
    memory = [pair["other"]["peak_gb"] / pair["ours"]["peak_gb"] for pair in pairs]
    shares = [pair["ours"]["operations_per_s"] / best for pair in pairs]
    return [
        Measured(
            f"{name}: useful tokens/s",
            middle("ours", "tokens_per_s"),
            middle("other", "tokens_per_s"),
            *_spread(rates),
            floor=faster,
        ),
        Measured(
            f"{name}: peak memory, GB (value: other over ours)",
            middle("ours", "peak_gb"),
            middle("other", "peak_gb"),
            *_spread(memory),
            floor=smaller,
        ),
        Measured(
            f"{name}: share of the ceiling of {best / 1e9:.0f} GFLOP/s (value: ours)",
            statistics.median(shares),
            middle("other", "operations_per_s") / best,
            *_spread(shares),
            floor=share,
        ),
    ]


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def main_of(kind: str, floors: Floors, arguments: Sequence[str] | None = None) -> int:
    """The benchmark of a kind of training, "lora" or "full"; --quick holds no floors."""
    parser = argparse.ArgumentParser(description=f"{kind} training beside TRL: tokens a second and peak memory.")
    parser.add_argument("--quick", action="store_true", help="one pair on 64 rows, no search for the best batch")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    rows, pairs = (64, 1) if given.quick else (120, 3)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        write_model(model)
        best = ceiling()
        print("as a user gets it", flush=True)
        usual = compare(model, kind=kind, rows=rows, pairs=pairs, batches=USUAL, alike=False)
        print("like for like", flush=True)
        batches = USUAL if given.quick else {side: fastest(side, model, kind, 64) for side in SIDES}
        alike = compare(model, kind=kind, rows=rows, pairs=pairs, batches=batches, alike=True)
        best = max(best, ceiling())
    if given.quick:
        return finish([*rows_of("as a user gets it", usual, best), *rows_of("like for like", alike, best)], given.json)
    return finish(
        [
            *rows_of("as a user gets it", usual, best, faster=floors.usual),
            *rows_of("like for like", alike, best, faster=floors.alike, smaller=floors.memory, share=floors.share),
        ],
        given.json,
    )
