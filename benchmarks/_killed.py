"""A run from outside: started as a user does, stopped by a signal, placed by what it left, held against its twin."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.core.files import sha256_of
from luthier.core.run import read_events

__all__ = [
    "PLACES",
    "Attempt",
    "differences",
    "events_of",
    "finish_here",
    "finish_outside",
    "landed",
    "no_checkpoint_of_the_last_step",
    "told",
]

PLACES = ("start-up", "preparation", "step", "checkpoint", "evaluation", "export", "report", "between stages")
"""Where a run can be stopped."""
LONGEST = 240.0
"""Seconds after which a run that should have gone on is taken for hanging."""
WRITTEN = ("*.writing", "*.before")
"""What lies among the checkpoints while one is being written."""
WITH_TIMES = ("events.jsonl", "manifest.json", "checkpoint.json", "report.html", "README.md")
"""Files that hold a time of day or a duration, and so cannot repeat as bytes."""
TIMES = ("created", "digests", "energy", "outputs", "parts", "peak_memory_gb", "seconds", "tokens_per_s", "waiting")
"""The keys of JSON files that hold such, or digests of what holds them."""

Event = dict[str, Any]


@dataclass
class Attempt:
    """One `luthier run` in a process of its own; `events` are those that it wrote, not those of attempts before it."""

    out: Path
    process: subprocess.Popen[str]
    began: float
    events: list[Event] = field(default_factory=list)
    _read: dict[Path, int] = field(default_factory=dict)

    @classmethod
    def start(cls, recipe: Path, out: Path) -> Attempt:
        """Gives the command. Its output is kept; on one thread, so that a second process changes nothing."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        sizes = {file: file.stat().st_size for file in _logs(out)}
        began = time.time()
        process = subprocess.Popen(
            _command(recipe, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        return cls(out, process, began, [], sizes)

    def look(self) -> list[Event]:
        """All events of this attempt so far."""
        for file in _logs(self.out):
            at = self._read.get(file, 0)
            with file.open("rb") as log:
                log.seek(at)
                whole, newline, _ = log.read().rpartition(b"\n")
            self._read[file] = at + len(whole + newline)
            self.events.extend(_parsed(whole))
        return self.events

    def writes_checkpoint(self) -> bool:
        """Whether a checkpoint of this attempt is being written, or was when it ended."""
        places = (f"{above}phases/*/checkpoints/{name}" for above in ("", "seeds/*/") for name in WRITTEN)
        left = (path for place in places for path in self.out.glob(place))
        return any(_changed(path) >= self.began for path in left)

    def reports(self) -> bool:
        """Whether the evidence of this attempt is written, which the report follows."""
        return _changed(self.out / "evidence.json") >= self.began

    def wait(self, ready: Callable[[Attempt], bool]) -> bool:
        """Waits for `ready`, looking every millisecond; False where the run ended before. Errors: as `end`."""
        while self.process.poll() is None:
            self.look()
            if ready(self):
                return True
            self._refuse_hanging()
            time.sleep(0.001)
        return False

    def pause(self, seconds: float) -> None:
        """Lets the run go on for so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def end(self, number: int) -> tuple[int, str]:
        """Sends the signal and waits for the end: the exit status, and what was written to standard error.

        Errors: SystemExit when the run does not end.
        """
        self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise SystemExit(f"the run did not end within {LONGEST:.0f} s of signal {number}") from error
        self.look()
        return self.process.returncode, errors

    def _refuse_hanging(self) -> None:
        if time.time() - self.began > LONGEST:
            self.process.kill()
            raise SystemExit(f"the run hangs; its last event was {self.events[-1:]}")


def _command(recipe: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "luthier.cli.main", "run", str(recipe), "--out", str(out), "--plain"]


def _logs(out: Path) -> list[Path]:
    """The event log of a run, and those of its seeds."""
    return [file for file in (out / "events.jsonl", *sorted(out.glob("seeds/*/events.jsonl"))) if file.exists()]


def _parsed(lines: bytes) -> Iterator[Event]:
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):  # the half line of an attempt before this one
            value = json.loads(line)
            if isinstance(value, dict):
                yield value


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return -1.0  # absent, or renamed since it was listed


def events_of(out: Path) -> list[Event]:
    """All events of all attempts in a run folder."""
    return [event for file in _logs(out) for event in read_events(file)]


# ---- to the end ------------------------------------------------------------------------------------------------------


def finish_here(recipe: Path, out: Path) -> None:
    """The same command, in this process: another one would mostly import. Errors: SystemExit unless it ends with 0."""
    from luthier.cli.main import main

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main(_command(recipe, out)[3:])
    except SystemExit as end:
        if end.code:
            raise SystemExit(f"the resumed run ended with {end.code}:\n{said.getvalue()[-3000:]}") from end


def finish_outside(recipe: Path, out: Path) -> None:
    """The same command in a process of its own. Errors: SystemExit unless it ends with 0."""
    attempt = Attempt.start(recipe, out)
    _, errors = attempt.process.communicate(timeout=LONGEST)
    if attempt.process.returncode:
        raise SystemExit(f"the resumed run ended with {attempt.process.returncode}:\n{errors[-3000:]}")


# ---- where it was stopped --------------------------------------------------------------------------------------------


def landed(events: Sequence[Event], writing: bool, reports: bool, every: int) -> str:
    """The one of PLACES that a stopped attempt was in.

    events: those of the attempt. writing: it left a half-written checkpoint. reports: it had written the evidence.
    every: steps between validations.
    """
    if not events:
        return "start-up"
    if writing:
        return "checkpoint"
    stages = [event for event in events if event["event"] == "stage"]
    stage, state = (stages[-1]["stage"], stages[-1]["state"]) if stages else ("", "")
    if stage == "check" and (state != "started" or reports):
        return "report"
    if state != "started":
        return "between stages"
    if not stage.startswith("train "):
        return {"prepare": "preparation", "base": "evaluation", "check": "evaluation"}.get(stage, stage)
    last = events[-1]
    if last["event"] == "step" and (last["step"] % every == 0 or last["step"] == last["total"]):
        return "evaluation"
    return "step"


def no_checkpoint_of_the_last_step(attempt: Attempt) -> str | None:
    """What a signal in training must leave and did not: a whole checkpoint of the step that was the last one."""
    steps = [event for event in attempt.events if event["event"] == "step"]
    after = attempt.events[attempt.events.index(steps[-1]) :] if steps else []
    if not steps or any(event["event"] == "stage" for event in after):
        return None  # it was not in training
    name = f"step-{steps[-1]['step']:08d}"
    kept = attempt.out.glob(f"**/phases/*-{steps[-1]['phase']}/checkpoints/{name}/checkpoint.json")
    return None if any(kept) else f"no checkpoint {name}"


# ---- beside the twin -------------------------------------------------------------------------------------------------


def differences(run: Path, twin: Path) -> list[str]:
    """What is not the same in two run folders; empty where they agree.

    The same files with the same bytes; in those that hold times, the same of everything else; and every step that was
    logged, by any attempt, with the twin's loss, rate, gradient norm and tokens: the same rows in the same order.
    """
    ours, theirs = ({str(file.relative_to(at)) for file in at.rglob("*") if _counts(file)} for at in (run, twin))
    found = [f"{name} is only in the run" for name in sorted(ours - theirs)]
    found += [f"{name} is only in the twin" for name in sorted(theirs - ours)]
    for name in sorted(ours & theirs):
        one, other = run / name, twin / name
        if one.name not in WITH_TIMES:
            found += [f"{name} has other bytes"] if sha256_of(one) != sha256_of(other) else []
        elif one.suffix == ".json":
            values = [_timeless(json.loads(file.read_text(encoding="utf-8"))) for file in (one, other)]
            found += [f"{name} has other values"] if values[0] != values[1] else []
        elif one.suffix == ".jsonl":
            found += [f"{name}: {what}" for what in _other_course(one, other)]
        elif not one.stat().st_size:
            found.append(f"{name} is empty")
    return found


def _counts(file: Path) -> bool:
    return file.is_file() and file.name != ".lock"  # it names a process, and means nothing without one


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _other_course(run: Path, twin: Path) -> list[str]:
    """Steps and validations that differ from the twin's, in any of the run's attempts, or that are missing."""
    expected = dict(_course(twin))
    found = []
    seen = set()
    for key, figures in _course(run):
        seen.add(key)
        if expected.get(key) != figures:
            found.append(f"{' '.join(map(str, key))} is {figures}, and {expected.get(key)} in the twin")
    return found + [f"{' '.join(map(str, key))} is missing" for key in expected if key not in seen]


def _course(log: Path) -> Iterator[tuple[tuple[str, str, int], tuple[Any, ...]]]:
    figures = {"step": ("loss", "lr", "grad_norm", "tokens", "total"), "validation": ("loss", "best")}
    for event in read_events(log):
        kind = event["event"]
        if kind in figures:
            yield (event["phase"], kind, event["step"]), tuple(event[name] for name in figures[kind])


def told(number: int, status: int, errors: str) -> str | None:
    """What is wrong with the end after a SIGTERM or Ctrl-C; None where it is as it should be."""
    if status != 130:
        return f"exit status {status} after {signal.Signals(number).name}"
    if "same command" not in errors:
        return "it did not say that the same command goes on"
    return "a traceback" if "Traceback" in errors else None
