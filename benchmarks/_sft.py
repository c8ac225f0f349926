"""Training of a 135M Llama shape: useful tokens a second and peak memory, ours beside TRL's trainer.

Both sides train over the same rows in the same order, each in a process of its own, ours and the peer's in turn. Useful
tokens are those that are not padding; the first steps, which hold the longest rows and touch their memory for the first
time, are not timed. Rates are by processor time, and by wall time too where no run was kept waiting.

Two comparisons: "as a user gets it", with what each side chooses by itself, and "like for like", with bf16 weights, the
same allocator thresholds, the same threads and no recomputation. There the peer is called in its fastest way, which the
rows name: with its bf16 autocast or without, and with the batch found by doubling and halving as far as memory allows;
ours keeps its default of tokens a step.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks._search import best_size
from benchmarks._turns import ALLOCATOR, quiet
from benchmarks._workload import SETTLED, WARM, ceiling, write_model
from benchmarks.record import Measured, finish

__all__ = ["Floors", "Way", "best_way", "main_of", "rows_of"]

ROOT = Path(__file__).parent.parent
SIDES = {"ours": "benchmarks._ours", "other": "benchmarks._peer_trl"}
ROWS = SETTLED + 56
"""Of a timed run: beside the settled ones two of our steps by default, seven of the peer's."""
TRIAL = SETTLED + 24
"""Of a run of the search."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How a side is called: its batch (our tokens a step, the peer's rows), and whether the peer's autocast is on."""

    batch: int
    autocast: bool = True


USUAL = {"ours": Way(4096), "other": Way(8)}
"""Each side's own defaults."""


@dataclass(frozen=True)
class Floors:
    """What must be reached: times the peer's rate by each side's defaults and like for like, share of the ceiling, and
    the peer's memory over ours like for like.
    """

    usual: float
    alike: float
    share: float
    memory: float


def measure(side: str, model: Path, *, kind: str, rows: int, way: Way, alike: bool) -> Result:
    """One side's run in a process of its own. Errors: SystemExit with the end of its output when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "result.json"
        settings = {"model": str(model), "kind": kind, "rows": rows, "alike": alike, "into": str(into), **asdict(way)}
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
        f"  {side:5} batch {way.batch:4}: {result['tokens_per_s']:7.1f} tokens/s, {result['peak_gb']:.2f} GB, "
        f"first loss {result['first_loss']:.3f}, {result['steps']} steps, {result['dtype']}",
        flush=True,
    )
    return result


def best_way(model: Path, kind: str) -> Way:
    """The peer's fastest way, like for like: first its autocast, then its batch, doubled while memory may hold it.

    By processor time: a way must not lose because something else ran on the machine while it was tried.
    """
    tried: dict[Way, Result] = {}

    def seconds(way: Way) -> float:
        if way not in tried:
            rows = max(TRIAL, 3 * way.batch)
            tried[way] = measure("other", model, kind=kind, rows=rows, way=way, alike=True)
        return 1 / float(tried[way]["tokens_per_cpu_s"])

    start = USUAL["other"].batch
    autocast = min((True, False), key=lambda on: seconds(Way(start, on)))

    def allowed(batch: int) -> bool:
        half = tried.get(Way(batch // 2, autocast))
        return half is None or 2e9 * half["peak_gb"] < psutil.virtual_memory().available

    return Way(best_size(start, lambda batch: seconds(Way(batch, autocast)), allowed), autocast)


def compare(
    model: Path, *, kind: str, rows: int, pairs: int, ways: Mapping[str, Way], alike: bool
) -> list[dict[str, Result]]:
    """Pairs of runs, ours and the peer's in turn; who goes first changes with each pair."""
    found = []
    rows = max(rows, 3 * ways["other"].batch)  # two steps to settle, and one to time
    for pair in range(pairs):
        order = tuple(SIDES) if pair % 2 == 0 else tuple(reversed(SIDES))
        found.append({side: measure(side, model, kind=kind, rows=rows, way=ways[side], alike=alike) for side in order})
        if ways["other"].batch == WARM:
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
    """The comparison's lines with their floors: rates, memory, and the share of the ceiling `best` (operations/s)."""

    def middle(side: str, key: str) -> float:
        return float(statistics.median(pair[side][key] for pair in pairs))

    def rates(unit: str, key: str) -> Measured:
        ratios = [pair["ours"][key] / pair["other"][key] for pair in pairs]
        return Measured(f"{name}: useful {unit}", middle("ours", key), middle("other", key), *_spread(ratios), faster)

    undisturbed = all(quiet([run], run["threads"]) for pair in pairs for run in pair.values())
    memory = [pair["other"]["peak_gb"] / pair["ours"]["peak_gb"] for pair in pairs]
    shares = [pair["ours"]["operations_per_s"] / best for pair in pairs]
    return [
        rates("tokens per processor second", "tokens_per_cpu_s"),
        *([rates("tokens/s", "tokens_per_s")] if undisturbed else []),
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
    parser.add_argument("--quick", action="store_true", help="one pair on fewer rows, no search for the peer's way")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    rows, pairs = (TRIAL, 1) if given.quick else (ROWS, 3)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        write_model(model)
        best = ceiling()
        print("as a user gets it", flush=True)
        usual = compare(model, kind=kind, rows=rows, pairs=pairs, ways=USUAL, alike=False)
        print("like for like", flush=True)
        ways = USUAL if given.quick else {**USUAL, "other": best_way(model, kind)}
        alike = compare(model, kind=kind, rows=rows, pairs=pairs, ways=ways, alike=True)
        best = max(best, ceiling())
    autocast = "with" if ways["other"].autocast else "without"
    name = f"like for like (other: batches of {ways['other'].batch}, {autocast} autocast)"
    if given.quick:
        return finish([*rows_of("as a user gets it", usual, best), *rows_of(name, alike, best)], given.json)
    return finish(
        [
            *rows_of("as a user gets it", usual, best, faster=floors.usual),
            *rows_of(name, alike, best, faster=floors.alike, smaller=floors.memory, share=floors.share),
        ],
        given.json,
    )
