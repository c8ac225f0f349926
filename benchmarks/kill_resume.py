"""A run that is killed at random moments and started again: does it end in the bytes of one that never was?

    python -m benchmarks.kill_resume [--quick] [--json FILE] [--seed N] [--folder FOLDER]

Each configuration is run once without a stop: the twin. Then the same command is given again and again in fresh
folders, killed with SIGKILL (in preparation, in a step, in a checkpoint's write, in evaluation, in export, in the
report, anywhere, twice in a row) and given again until it ends. Weights, optimizer state, prepared data, scores,
evidence, the exported model, and loss, rate and gradient norm of every step that any attempt made must be the twin's to
the last bit. SIGTERM and Ctrl-C must end a run with 130, in training with a checkpoint of the very step, and the
resumed run in the same bytes. Rows are counted by configuration and by where the signal landed, which is read from
what the run left, not from where it was aimed. Value: the share that ended equal.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ._kill_recipes import VALIDATE_EVERY, Configuration, configurations, quick_configuration, write_recipe
from ._killed import (
    Attempt,
    differences,
    events_of,
    finish_here,
    finish_outside,
    landed,
    no_checkpoint_of_the_last_step,
    told,
)
from .record import Measured, finish

__all__ = ["Stop", "main", "rows_of"]

MOMENTS = ("preparation", "step", "checkpoint", "evaluation", "report", "twice", "export", "anywhere")
REQUIRED = ("preparation", "step", "checkpoint", "evaluation", "report")
"""Where at least one kill must land, or the campaign has not shown what it claims."""
SECOND = ("step", "checkpoint", "check", "report")
AIMED_SIGNALS = tuple(
    (number, moment)
    for moment in ("step", "preparation", "checkpoint", "evaluation")
    for number in (signal.SIGTERM, signal.SIGINT)
)
FOR_EACH = 4
"""Kills of each configuration."""
TRIES = 4
LEAST = 50
WRITING = 0.01
"""Seconds: a small part of what a checkpoint's write takes."""

Ready = Callable[[Attempt], bool]


@dataclass(frozen=True)
class Stop:
    """One stopped and resumed run: its configuration, the signal, where it landed, and how its end differs."""

    configuration: str
    number: int
    places: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Pace:
    """How long the twin took: seconds of each stage, of a step, of a checkpoint and of a validation; its steps."""

    seconds: dict[str, float]
    steps: int

    @classmethod
    def of(cls, events: Sequence[dict[str, Any]]) -> _Pace:
        seconds: dict[str, float] = {}
        gaps: dict[str, list[float]] = {"step": [], "checkpoint": [], "validation": []}
        began: dict[str, float] = {}
        for before, event in pairwise([events[0], *events]):
            kind = event["event"]
            if kind == "stage" and event["state"] == "started":
                began[event["stage"]] = event["time"]
            elif kind == "stage":
                seconds[event["stage"]] = event["time"] - began[event["stage"]]
                began["report"] = event["time"]  # the report follows the last stage that is logged
            elif kind in gaps:
                gaps[kind].append(event["time"] - before["time"])
        seconds |= {kind: statistics.median(found) for kind, found in gaps.items()}
        seconds |= {"report": events[-1]["time"] - began["report"], "anywhere": events[-1]["time"] - events[0]["time"]}
        return cls(seconds, len(_trained(events)))


def _trained(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps of the recipe's phases; those of a base's head belong to the evaluation."""
    return [event for event in events if event["event"] == "step" and event["phase"] != "base"]


# ---- aiming ----------------------------------------------------------------------------------------------------------


def _aim(moment: str, pace: _Pace, draw: random.Random) -> tuple[Ready, float]:
    """When the moment is under way, and how many seconds after that the signal is to be sent."""

    def started(stage: str) -> Ready:
        return lambda attempt: any(e.get("stage") == stage and e["state"] == "started" for e in attempt.events)

    if moment == "evaluation":
        moment = draw.choice(("base", "check", "validation"))
    if moment in ("preparation", "base", "check", "export"):
        stage = "prepare" if moment == "preparation" else moment
        return started(stage), draw.uniform(0, 0.7 * pace.seconds[stage])
    if moment == "report":
        return Attempt.reports, draw.uniform(0, 0.7 * pace.seconds["report"])
    if moment == "anywhere":
        return (lambda attempt: bool(attempt.events)), draw.uniform(0, pace.seconds["anywhere"])
    after = draw.randint(1, pace.steps)
    if moment == "step":
        return (lambda attempt: len(_trained(attempt.events)) >= after), draw.uniform(0, 2 * pace.seconds["step"])
    if moment == "validation":
        return (lambda attempt: _validates(attempt, after)), draw.uniform(0, pace.seconds["validation"])
    assert moment == "checkpoint"
    return (lambda attempt: len(_trained(attempt.events)) >= after and attempt.writes_checkpoint()), draw.uniform(
        0, WRITING
    )


def _validates(attempt: Attempt, after: int) -> bool:
    steps = _trained(attempt.events)
    return len(steps) >= min(after, VALIDATE_EVERY) and steps[-1]["step"] % VALIDATE_EVERY == 0


def _second(pace: _Pace, draw: random.Random) -> tuple[Ready, float]:
    """A moment that a resumed run still meets: its next step or checkpoint, the checks, or the report."""
    moment = draw.choice(SECOND)
    return _aim(moment, _Pace(pace.seconds, 1) if moment in ("step", "checkpoint") else pace, draw)


# ---- one stop --------------------------------------------------------------------------------------------------------


@dataclass
class _Campaign:
    """One configuration's runs: the recipe, the twin's folder and pace, and the source of what is random."""

    one: Configuration
    folder: Path
    draw: random.Random
    quick: bool = False
    done: int = 0

    def __post_init__(self) -> None:
        self.recipe = write_recipe(self.one, self.folder)
        self.out, self.twin = self.folder / "run", self.folder / "twin"
        # The twin runs where the others will, so that a path in a file is no difference; then it makes room.
        finish_here(self.recipe, self.out)
        self.out.rename(self.twin)
        events = events_of(self.twin)
        self.pace = _Pace.of(events)
        last = _trained(events)[-1]
        if (last["step"] < last["total"]) != self.one.stops_early:
            raise SystemExit(f"{self.one.name}: it ended at step {last['step']} of {last['total']}")

    def killed(self, moment: str) -> Stop:
        """Killed once, or several times in a row, then brought to its end and compared."""
        for _ in range(TRIES):
            first = self.draw.choice(("preparation", "step", "checkpoint")) if moment == "twice" else moment
            places = self._kill(*_aim(first, self.pace, self.draw))
            if moment == "twice" and places:
                again = self._kill(*_second(self.pace, self.draw))
                places = (*places, *again) if again else ()
            # A write is short, and easily missed: the run is killed again until one is hit, or it ends.
            while moment == "checkpoint" and places and places[-1] != moment and len(places) < TRIES:
                again = self._kill(*_aim(moment, _Pace(self.pace.seconds, 1), self.draw))
                if not again:
                    break
                places = (*places, *again)
            if places:
                return self._ended(signal.SIGKILL, places, [])
            shutil.rmtree(self.out)  # it had ended before
        raise SystemExit(f"{self.one.name}: no signal in '{moment}' came before the run's end")

    def _kill(self, ready: Ready, delay: float) -> tuple[str, ...]:
        """The place where the kill landed; nothing where the run had ended before."""
        attempt = self._ripe(ready, delay)
        status, _ = attempt.end(signal.SIGKILL)
        return (self._place(attempt),) if status == -signal.SIGKILL else ()

    def asked(self, number: int, moment: str) -> Stop:
        """Asked to stop by SIGTERM or Ctrl-C, then brought to its end and compared."""
        for _ in range(TRIES):
            attempt = self._ripe(*_aim(moment, self.pace, self.draw))
            attempt.look()
            place = self._place(attempt)  # where it was asked: it goes on to the end of the step or stage
            status, errors = attempt.end(number)
            if status != 0:
                found = [told(number, status, errors), no_checkpoint_of_the_last_step(attempt)]
                return self._ended(number, (place,), [what for what in found if what])
            shutil.rmtree(self.out)  # the signal came when nothing was left to stop
        raise SystemExit(f"{self.one.name}: no {signal.Signals(number).name} in '{moment}' came before the run's end")

    def _ripe(self, ready: Ready, delay: float) -> Attempt:
        """An attempt at the moment of the signal; it may have ended before."""
        attempt = Attempt.start(self.recipe, self.out)
        if attempt.wait(ready):
            attempt.pause(delay)
        return attempt

    def _place(self, attempt: Attempt) -> str:
        return landed(attempt.events, attempt.writes_checkpoint(), attempt.reports(), VALIDATE_EVERY)

    def _ended(self, number: int, places: tuple[str, ...], problems: list[str]) -> Stop:
        """The same command to its end (the last kill's in a process of its own), and the comparison."""
        self.done += 1
        try:
            (finish_outside if self.done == FOR_EACH and not self.quick else finish_here)(self.recipe, self.out)
            problems += differences(self.out, self.twin)
        except SystemExit as error:
            problems.append(str(error))
        name = signal.Signals(number).name
        print(f"  {name} in {', then '.join(places)}: {'equal' if not problems else 'UNEQUAL'}", flush=True)
        for problem in problems[:5]:
            print(f"    {problem}", flush=True)
        if problems:
            self.out.rename(self.folder / f"unequal-{self.done}")
        else:
            shutil.rmtree(self.out)
        return Stop(self.one.name, number, places, tuple(problems))


# ---- all of them -----------------------------------------------------------------------------------------------------


def _quick(folder: Path, seed: int) -> list[Stop]:
    campaign = _Campaign(quick_configuration(), folder / "0", random.Random(seed), quick=True)
    kills = [campaign.killed(moment) for moment in ("preparation", "step", "checkpoint", "report")]
    return [*kills, campaign.asked(signal.SIGTERM, "step")]


def _full(folder: Path, seed: int) -> list[Stop]:
    found = []
    for place, one in enumerate(configurations()):
        print(one.name, flush=True)
        campaign = _Campaign(one, folder / str(place), random.Random(seed * 1000 + place))
        # The start moves by one with each pair: float32 and bfloat16, which take turns, meet all moments alike.
        start = FOR_EACH * place + place // 2
        found += [campaign.killed(MOMENTS[(start + turn) % len(MOMENTS)]) for turn in range(FOR_EACH)]
        if place < len(AIMED_SIGNALS):
            found.append(campaign.asked(*AIMED_SIGNALS[place]))
    return found


def rows_of(stops: Sequence[Stop], least: int, required: Sequence[str]) -> list[Measured]:
    """The table: how many ended equal, by configuration, by place and by signal.

    It falls short with fewer than `least` kills in all, or without one in each of `required`.
    """
    kills = [stop for stop in stops if stop.number == signal.SIGKILL]
    rows = [Measured("runs killed", len(kills), least, len(kills) / least, floor=1.0), _share("all kills", kills)]
    names = dict.fromkeys(stop.configuration for stop in kills)
    rows += [_share(f"kills of {name}", [stop for stop in kills if stop.configuration == name]) for name in names]
    places = dict.fromkeys((*required, *sorted({place for stop in kills for place in stop.places})))
    rows += [_share(f"killed in: {place}", [stop for stop in kills if place in stop.places]) for place in places]
    again = [stop for stop in kills if len(stop.places) > 1]
    rows += [_share("killed twice in a row or more", again)] if again else []
    for number in (signal.SIGTERM, signal.SIGINT):
        asked = [stop for stop in stops if stop.number == number]
        for place in sorted({stop.places[0] for stop in asked}):
            name = f"{number.name} in: {place} (exit 130, and what follows)"
            rows.append(_share(name, [stop for stop in asked if stop.places == (place,)]))
    return rows


def _share(name: str, stops: Sequence[Stop]) -> Measured:
    equal = sum(not stop.problems for stop in stops)
    share = equal / len(stops) if stops else float("nan")
    return Measured(f"{name}: ended in the twin's bytes, of so many", equal, len(stops), share, floor=1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kills runs and holds what they end in against runs never killed.")
    parser.add_argument("--quick", action="store_true", help="four kills and one signal, about a minute")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--folder", type=Path, default=None, help="where the runs lie; keeps those that end unequal")
    given = parser.parse_args(arguments)
    # This process finishes runs that others began: it must compute as they do.
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stops = (_quick if given.quick else _full)(folder, given.seed)
    least, required = (4, ()) if given.quick else (LEAST, REQUIRED)
    return finish(rows_of(stops, least, required), given.json)


if __name__ == "__main__":
    sys.exit(main())
