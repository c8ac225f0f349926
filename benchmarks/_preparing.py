"""What both sides of the preparation benchmark share: a clock of stages and the memory of the process."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from luthier.core.peak import peak_resident

__all__ = ["PACK", "PERMUTATIONS", "SHINGLE", "THRESHOLD", "Kept", "Stages", "digest", "worker"]

THRESHOLD, SHINGLE, PERMUTATIONS = 0.8, 3, 128
PACK = 2048
"""Tokens of a pack."""

Done = TypeVar("Done")
Kept = tuple[int, str, int]
"""A row that is left: its line, a digest of its text, its tokens."""


class Stages:
    """Processor seconds of each stage, and the clock's from the first to the last."""

    def __init__(self) -> None:
        self.before = peak_resident()
        self.seconds: dict[str, float] = {}
        self._clock = 0.0

    def run(self, name: str, work: Callable[[], Done]) -> Done:
        clock, processor = time.perf_counter(), time.process_time()
        done = work()
        self._clock += time.perf_counter() - clock
        self.seconds[name] = time.process_time() - processor
        return done

    def result(self) -> dict[str, Any]:
        """Times and memory so far; what is made of the rows afterwards is not counted."""
        return {
            "seconds": self._clock,
            "cpu_seconds": sum(self.seconds.values()),
            "stages": self.seconds,
            "peak_bytes": peak_resident(),
            "grown_bytes": peak_resident() - self.before,
        }


def digest(text: str) -> str:
    """A few letters that stand for the text."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def worker(run: Callable[[Mapping[str, str]], tuple[dict[str, Any], Iterable[Kept]]]) -> None:
    """The body of a side's process: settings as JSON in the first argument, the result into the file they name."""
    settings = json.loads(sys.argv[1])
    result, kept = run(settings)
    Path(settings["into"]).write_text(json.dumps({**result, "kept": list(kept)}), encoding="utf-8")
