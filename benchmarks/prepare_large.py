"""A million short rows, prepared in bounded memory, killed on the way, and gone on with.

    python -m benchmarks.prepare_large [--rows N] [--json FILE] [--folder FOLDER]

Rows are made from a seed: sentences of 5 to 25 words, drawn as often as words are in a language; one in twenty stands
twice, one in fifty a second time with one word changed, one in a hundred holds markup, one in a thousand is damaged.
They are read, cleaned and deduplicated (exact and near) and written. The same rows are then prepared again, killed with
SIGKILL at a third and at two thirds of that time, and gone on with: the bytes of rows and ledger must be the same.
Memory is the largest sum over all processes of what each holds alone (with its part of what they share), looked at
every tenth of a second; the floor is 2 GiB. A quarter and a half of the rows say how the time grows: the value is the
exponent of rows in it, between 1 (linear) and 2 (every pair), as 2 less the slope on logarithmic axes; the floor allows
a slope of 1.15.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from luthier.core.files import remove_tree, sha256_of

from .record import Measured, finish

__all__ = ["Outcome", "main", "make_rows", "prepare_here"]

MOST_MEMORY = 2 * 2**30  # bytes
SLOPE = 1.15
WORDS = 30_000
SEED = 1


@dataclass(frozen=True)
class Outcome:
    """What one preparation came to: seconds, the most bytes of memory, and digests of rows and ledger."""

    seconds: float
    memory: int
    digests: tuple[str, ...] = ()


def make_rows(path: Path, count: int, seed: int = SEED) -> None:
    """Writes so many rows of JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for line in _lines(count, seed):
            file.write(line + "\n")


def _lines(count: int, seed: int) -> Iterator[str]:
    draw = random.Random(seed)
    rank = 1 / np.arange(1, WORDS + 1)
    ends = list(np.cumsum(rank / rank.sum()))
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(WORDS)]
    earlier: list[str] = []
    for number in range(count):
        words = draw.choices(vocabulary, cum_weights=ends, k=draw.randint(5, 25))
        kind = draw.random()
        if kind < 0.05 and earlier:
            words = draw.choice(earlier).split()
        elif kind < 0.07 and earlier:
            words = draw.choice(earlier).split()
            words[draw.randrange(len(words))] = draw.choice(vocabulary)
        elif kind < 0.08:
            words = ["<p>", *words, "&amp;", "</p>"]
        text = " ".join(words)
        if len(earlier) < 10_000:
            earlier.append(text)
        else:
            earlier[draw.randrange(len(earlier))] = text
        line = json.dumps({"text": text, "label": str(number % 5)})
        yield line[:-3] if draw.random() < 0.001 else line


def prepare_here(rows: Path, folder: Path, *, killed_after: Sequence[float] = ()) -> Outcome:
    """Prepares the rows in processes of their own; killed so many seconds after each start, and started again."""
    out, work = folder / "rows.parquet", folder / "unfinished"
    for earlier in (out, out.with_suffix(".ledger.jsonl")):
        earlier.unlink(missing_ok=True)
    remove_tree(work)
    began, memory = time.monotonic(), 0
    for seconds in (*killed_after, None):
        command = [sys.executable, "-m", "benchmarks._prepare_large_side", str(rows), str(out), str(work)]
        memory = max(memory, _watched(command, seconds))
    digests = (sha256_of(out), sha256_of(out.with_suffix(".ledger.jsonl")))
    return Outcome(time.monotonic() - began, memory, digests)


def _watched(command: Sequence[str], seconds: float | None) -> int:
    """The most memory that the command held, with its children; killed after some seconds where these are given."""
    process = subprocess.Popen(command)
    began, most = time.monotonic(), 0
    while process.poll() is None:
        if seconds is not None and time.monotonic() - began > seconds:
            children = psutil.Process(process.pid).children(recursive=True)
            for one in (process, *children):
                with suppress(psutil.NoSuchProcess, ProcessLookupError):
                    one.send_signal(signal.SIGKILL)
            process.wait()
            psutil.wait_procs(children)
            return most
        most = max(most, _memory(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"the preparation ended with status {process.returncode}")
    if seconds is not None:
        raise SystemExit(f"the preparation had ended before it could be killed after {seconds:.1f} s")
    return most


def _memory(number: int) -> int:
    total = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(number)
        for one in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += one.memory_full_info().pss
    return total


def rows_of(whole: Outcome, killed: Outcome, smaller: Sequence[tuple[int, Outcome]], count: int) -> list[Measured]:
    """The rows of the benchmark."""
    memory = max(whole.memory, killed.memory)
    logs = np.log([[rows, outcome.seconds] for rows, outcome in (*smaller, (count, whole))])
    slope = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    equal = float(whole.digests == killed.digests)
    return [
        Measured(f"{count:,} rows a second, prepared to the end", count / whole.seconds, None, count / whole.seconds),
        Measured(
            "memory in GiB, as a share of 2 GiB left free", memory / 2**30, 2.0, 1 - memory / MOST_MEMORY, floor=0
        ),
        Measured(
            "killed twice and gone on with: the same bytes; seconds", killed.seconds, whole.seconds, equal, floor=1
        ),
        Measured("growth of time with rows: 2 less the slope", slope, 1.0, 2 - slope, floor=2 - SLOPE),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the rows; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description="A million rows in bounded memory, killed and gone on with.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="20,000 rows; no floor says much")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="where rows lie; default: a temporary folder")
    given = parser.parse_args(arguments)
    count = 20_000 if given.quick else given.rows
    with ExitStack() as stack:
        base = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prepare-large-")))
        smaller = []
        for part in (count // 4, count // 2):
            smaller.append((part, _one(base / f"{part}", part)))
            print(f"{part:,} rows: {smaller[-1][1].seconds:.1f} s", flush=True)
        whole = _one(base / f"{count}", count)
        print(f"{count:,} rows: {whole.seconds:.1f} s, {whole.memory / 2**30:.2f} GiB", flush=True)
        moments = (whole.seconds / 3, whole.seconds / 3)
        # In the same folder: ids and origins name the file as it was given.
        killed = _one(base / f"{count}", count, moments)
        print(f"killed twice: {killed.seconds:.1f} s, {killed.memory / 2**30:.2f} GiB", flush=True)
    return finish(rows_of(whole, killed, smaller, count), given.json)


def _one(folder: Path, count: int, killed_after: Sequence[float] = ()) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "source.jsonl"
    make_rows(rows, count)
    return prepare_here(rows, folder, killed_after=killed_after)


if __name__ == "__main__":
    sys.exit(main())
