"""Sides of a benchmark, each in a process of its own, that work in turn: while one does, the others wait.

So short turns can be compared on a machine that others use too. Rates are by processor time, and by wall time as well
where no turn was kept waiting. All sides have the same threads and the same settings of the allocator. A side is a
function work(settings, turns) that takes requests from `turns` and answers each; it stands in a module, since its
process is started afresh.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.record import Measured

__all__ = ["ALLOCATOR", "Clock", "Side", "Turns", "compared", "even_settings", "outside_data", "quiet", "sides"]

Work = Callable[[Mapping[str, Any], "Turns"], None]
QUIET = 0.7
"""The share of its threads' time that a turn must have had for its wall time to count."""
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**26)}
"""Thresholds that keep the C library from giving large tensors back to the system and touching them anew."""


class Clock:
    """Seconds since it was made: on the wall, and of this process's processors, which neighbors disturb less."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}


class Turns:
    """The requests that a side gets, one after the other; each must be answered before the next."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __iter__(self) -> Iterator[Any]:
        while (request := self._pipe.recv()) is not None:
            yield request

    def answer(self, value: Mapping[str, Any]) -> None:
        self._pipe.send(value)


class Side:
    """A side's process, started at once. Errors: SystemExit with its traceback when it fails."""

    def __init__(self, work: Work, settings: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(work, settings, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def turn(self, request: Any) -> dict[str, Any]:
        """Hands the side a request (anything but None) and waits for its answer."""
        with suppress(OSError):  # a side that has failed has left the reason in the pipe
            self._pipe.send(request)
        try:
            answer: dict[str, Any] = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(10)
            raise SystemExit(f"a side ended without an answer (status {self._process.exitcode})") from error
        if "failed" in answer:
            raise SystemExit(str(answer["failed"]))
        return answer

    def close(self) -> None:
        """Tells the side that no more turns come, and waits for its end."""
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()


def _serve(work: Work, settings: Mapping[str, Any], pipe: Connection) -> None:
    try:
        work(settings, Turns(pipe))
    except Exception:  # whatever a side fails by, the other process must learn of it
        pipe.send({"failed": traceback.format_exc()[-3000:]})


@contextmanager
def sides(works: Mapping[str, tuple[Work, Mapping[str, Any]]]) -> Iterator[dict[str, Side]]:
    """The sides by name, all started; closed at the end."""
    started: dict[str, Side] = {}
    try:
        for name, (work, settings) in works.items():
            started[name] = Side(work, settings)
        yield started
    finally:
        for side in started.values():
            side.close()


def even_settings(count: int | None) -> int:
    """Has processes started from now on compute with so many threads (None: one a core); returns the number.

    They also get the allocator's thresholds of ALLOCATOR, in the environment: no side has to set them by itself.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = count or cores
    os.environ.update(
        ALLOCATOR,
        OMP_NUM_THREADS=str(chosen),
        MKL_NUM_THREADS=str(chosen),
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_OFFLINE="1",
    )
    return chosen


def outside_data(*parts: str) -> Path:
    """A file of the outside data. Errors: SystemExit where it is absent."""
    root = os.environ.get("LUTHIER_DATA")
    path = Path(root or ".").joinpath(*parts)
    if root is None or not path.is_file():
        raise SystemExit(f"{'/'.join(parts)} is absent: set LUTHIER_DATA to the folder of the outside data")
    return path


def compared(
    name: str, rounds: Sequence[Mapping[str, Mapping[str, Any]]], other: str, floor: float, threads: int
) -> list[Measured]:
    """Rates of "ours" and of side `other` by processor time, and by wall time where the machine was quiet enough.

    rounds: for each its answers by side, with tokens, wall and cpu. Value: the median of the rounds' ratios.
    """
    units = {"cpu": "tokens per processor second"}
    if quiet([round[side] for round in rounds for side in ("ours", other)], threads):
        units["wall"] = "tokens/s"
    found = []
    for clock, unit in units.items():
        ratios = [_rate([round["ours"]], clock) / _rate([round[other]], clock) for round in rounds]
        ours, theirs = (_rate([round[side] for round in rounds], clock) for side in ("ours", other))
        spread = statistics.median(ratios), min(ratios), max(ratios)
        found.append(Measured(f"{name}: useful {unit}", ours, theirs, *spread, floor=floor))
    return found


def quiet(answers: Sequence[Mapping[str, Any]], threads: int) -> bool:
    """Whether every turn got most of its threads' processor time: wall times of others compare the neighbors too."""
    return all(answer["cpu"] >= QUIET * threads * answer["wall"] for answer in answers)


def _rate(answers: Sequence[Mapping[str, Any]], clock: str) -> float:
    return sum(float(answer["tokens"]) for answer in answers) / sum(float(answer[clock]) for answer in answers)
