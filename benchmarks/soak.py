"""Does a long run hold on to memory or files, and does its killed twin agree with it?

    python -m benchmarks.soak [--hours H] [--quick] [--json FILE] [--out FOLDER]

Two runs of one recipe (the embedded model and data, LoRA with dropout, a checkpoint and a validation every 25 steps)
train side by side on one thread each, so that the other core is busy. The first is left alone; its memory and open
files are sampled from outside. The second is killed with SIGKILL again and again and started with the same command.
Both write the digest of their weights and of the optimizer's state at every checkpoint: all steps that both reached
must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .record import Measured, finish

__all__ = ["main"]

WARM = 0.25
"""The share of the time that counts as warming up: allocators and caches fill."""
RECIPE = """\
name: soak
model: embedded:nano
data: {train: embedded:repair-shop, validation: 0.05, bad_rows: quarantine, steps: [clean, deduplicate]}
phases:
  - name: sft
    objective: causal_lm
    adaptation: {lora: {rank: 8, dropout: 0.05}}
    optimizer: {adamw: {lr: 1.0e-4}}
    schedule: constant
    steps: 1000000
    per_step: {tokens: 2048}
    watch: {every: 25, rows: 16}
    checkpoints: {every: 25, keep: 2}
machine: {device: cpu, dtype: float32}
"""


@dataclass
class _Runner:
    """One of the two runs: its folder, its process, and the digests of its checkpoints by step."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    digests: dict[int, tuple[str, ...]] = field(default_factory=dict)
    starts: int = 0

    def start(self, recipe: Path) -> None:
        command = [sys.executable, "-m", "luthier.cli.main", "train", str(recipe), "--out", str(self.folder), "--plain"]
        log = self.folder.with_suffix(".log")
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
        self.starts += 1

    def alive(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        if self.process.poll() is not None:
            log = self.folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{self.folder.name} ended with {self.process.returncode}:\n{log[-2000:]}")
        return self.process

    def look(self) -> None:
        """Notes the digests of the checkpoints that are there now."""
        for path in self.folder.glob("phases/*/checkpoints/step-*/checkpoint.json"):
            step = int(path.parent.name.removeprefix("step-").partition(".")[0])
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue  # removed between the listing and the reading
            found = tuple(record["digests"][name] for name in sorted(record["digests"]))
            if self.digests.setdefault(step, found) != found:
                raise SystemExit(f"{self.folder.name} wrote two different checkpoints of step {step}")


@dataclass(frozen=True)
class _Sample:
    """What the untouched run held at a moment: seconds since the start, resident MiB, open files, threads."""

    at: float
    memory: float
    files: int
    threads: int


def _sample(process: subprocess.Popen[bytes], since: float) -> _Sample:
    import psutil

    seen = psutil.Process(process.pid)
    with seen.oneshot():
        return _Sample(time.monotonic() - since, seen.memory_info().rss / 2**20, seen.num_fds(), seen.num_threads())


def _watch(left: _Runner, killed: _Runner, recipe: Path, seconds: float, every: float) -> list[_Sample]:
    """Samples of `left` over `seconds`, while `killed` is killed about every `every` seconds and started again."""
    draw = random.Random(1)
    since = time.monotonic()
    left.start(recipe)
    killed.start(recipe)
    next_kill = every * draw.uniform(0.7, 1.3)
    samples = []
    while (now := time.monotonic() - since) < seconds:
        time.sleep(0.5)
        left.look()
        killed.look()
        if not samples or now - samples[-1].at >= min(15.0, seconds / 40):
            samples.append(_sample(left.alive(), since))
        if now >= next_kill:
            process = killed.alive()
            process.kill()
            process.wait()
            killed.start(recipe)
            next_kill = now + every * draw.uniform(0.7, 1.3)
    return samples


def _end(*runners: _Runner) -> None:
    """Asks both to stop: each must write a checkpoint and end with 130."""
    for runner in runners:
        runner.alive().send_signal(signal.SIGTERM)
    for runner in runners:
        assert runner.process is not None
        status = runner.process.wait(timeout=120)
        runner.look()
        if status != 130:
            raise SystemExit(f"{runner.folder.name} ended with {status} after SIGTERM, not with 130")


def _rows(samples: Sequence[_Sample], left: _Runner, killed: _Runner) -> list[Measured]:
    warm = [sample for sample in samples if sample.at >= WARM * samples[-1].at]
    half = len(warm) // 2
    early, late = warm[:half], warm[half:]

    def grown(what: str) -> Measured:
        before, after = ([getattr(sample, what) for sample in part] for part in (early, late))
        first, second = statistics.median(before), statistics.median(after)
        hours = samples[-1].at / 3600
        name = f"{what} of a run of {hours:.2f} hours: median of its last part over that before it, after warming up"
        unit = {"memory": " (MiB)"}.get(what, "")
        return Measured(name + unit, second, first, second / first, min(before + after), max(before + after))

    common = sorted(set(left.digests) & set(killed.digests))
    equal = sum(left.digests[step] == killed.digests[step] for step in common)
    twin = Measured(
        f"checkpoints equal in every byte to those of a twin killed {killed.starts - 1} times, share of {len(common)}",
        equal,
        len(common),
        equal / len(common) if common else float("nan"),
        floor=1.0,
    )
    steps = Measured("steps of the untouched run", max(left.digests), None, max(left.digests))
    return [*(grown(what) for what in ("memory", "files", "threads")), twin, steps]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A long run under load: memory, open files, and its killed twin.")
    parser.add_argument("--hours", type=float, default=2.1)
    parser.add_argument("--quick", action="store_true", help="two minutes, two kills")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    recipe = given.out / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    left, killed = _Runner(given.out / "left-alone"), _Runner(given.out / "killed")
    if left.folder.exists() or killed.folder.exists():
        raise SystemExit(f"{given.out} holds an earlier soak: remove it, or name another folder with --out")
    seconds, every = (120.0, 45.0) if given.quick else (given.hours * 3600, 600.0)
    samples = _watch(left, killed, recipe, seconds, every)
    _end(left, killed)
    (given.out / "samples.json").write_text(json.dumps([vars(sample) for sample in samples]) + "\n", encoding="utf-8")
    return finish(_rows(samples, left, killed), given.json)


if __name__ == "__main__":
    sys.exit(main())
