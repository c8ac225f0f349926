"""Where a killed run is placed, what its table counts, and what a signal's end is asked for."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks._kill_recipes import configurations
from benchmarks._killed import landed, told
from benchmarks.kill_resume import Stop, rows_of
from luthier.core.recipe import Recipe


def stage(name: str, state: str = "started") -> dict[str, Any]:
    return {"event": "stage", "stage": name, "state": state}


def step(number: int) -> dict[str, Any]:
    return {"event": "step", "phase": "first", "step": number, "total": 9}


VALIDATION = {"event": "validation", "phase": "first", "step": 4}
TRAINING = [stage("prepare", "done"), stage("train first")]
PLACED: list[tuple[list[dict[str, Any]], bool, bool, str]] = [
    ([], False, False, "start-up"),
    ([stage("prepare")], False, False, "preparation"),
    ([stage("prepare", "kept")], False, False, "between stages"),
    ([stage("base")], False, False, "evaluation"),
    ([stage("base"), step(2)], True, False, "checkpoint"),
    (TRAINING, False, False, "step"),
    ([*TRAINING, step(3)], False, False, "step"),
    ([*TRAINING, step(3)], True, False, "checkpoint"),
    ([*TRAINING, step(4)], False, False, "evaluation"),
    ([*TRAINING, step(9)], False, False, "evaluation"),
    ([*TRAINING, step(4), VALIDATION], False, False, "step"),
    ([stage("train first", "done")], False, False, "between stages"),
    ([stage("export")], False, False, "export"),
    ([stage("check")], False, False, "evaluation"),
    ([stage("check", "done")], False, False, "report"),
    ([stage("check", "kept")], False, True, "report"),
]


@pytest.mark.parametrize(("events", "writing", "reports", "place"), PLACED)
def test_a_stop_is_placed_by_what_it_left(
    events: list[dict[str, Any]], writing: bool, reports: bool, place: str
) -> None:
    assert landed(events, writing, reports, every=4) == place


def test_the_table_counts_what_ended_equal_and_falls_short_otherwise() -> None:
    kill, asked = signal.SIGKILL, signal.SIGTERM
    stops = [
        Stop("a", kill, ("step",), ()),
        Stop("a", kill, ("step",), ("model/x has other bytes",)),
        Stop("b", kill, ("step", "report"), ()),
        Stop("b", asked, ("step",), ()),
    ]
    rows = {row.name.partition(": ended")[0]: row for row in rows_of(stops, 3, ("step", "preparation"))}
    counted = {name: (row.ours, row.other, row.holds) for name, row in rows.items()}
    assert counted == {
        "runs killed": (3, 3, True),
        "all kills": (2, 3, False),
        "kills of a": (1, 2, False),
        "kills of b": (1, 1, True),
        "killed in: step": (2, 3, False),
        "killed in: preparation": (0, 0, False),
        "killed in: report": (1, 1, True),
        "killed twice in a row or more": (1, 1, True),
        "SIGTERM in: step (exit 130, and what follows)": (1, 1, True),
    }
    assert not rows_of(stops, 4, ())[0].holds, "too few kills"


def test_the_end_after_a_signal_is_judged() -> None:
    said = "stopped after step 3 of 9; the same command goes on from here"
    assert told(signal.SIGTERM, 130, said) is None
    assert told(signal.SIGINT, 0, said) == "exit status 0 after SIGINT"
    assert told(signal.SIGINT, -2, said) == "exit status -2 after SIGINT"
    assert "same command" in str(told(signal.SIGTERM, 130, "stopped"))
    assert told(signal.SIGTERM, 130, f"Traceback (most recent call last)\n{said}") == "a traceback"


def test_the_configurations_cover_what_they_promise(tmp_path: Path) -> None:
    """Every objective with every adaptation and dtype; every one of these with and without early stopping."""
    single = configurations()[:12]
    factors = set()
    for one in configurations():
        data = {"train": str(tmp_path / "rows.jsonl")}
        phases = [phase | ({"data": phase["data"] | data} if "data" in phase else {}) for phase in one.recipe["phases"]]
        Recipe.of(one.recipe | {"data": one.recipe["data"] | data, "phases": phases})
    for one in single:
        phase = one.recipe["phases"][0]
        stops = "patience" in phase["watch"]
        assert stops == one.stops_early
        factors.add((phase["objective"], str(phase["adaptation"]), one.recipe["machine"]["dtype"], stops))
    assert len({factor[:3] for factor in factors}) == 12
    for place in range(3):
        assert {(factor[place], factor[3]) for factor in factors} == {
            (value, stops) for value in {factor[place] for factor in factors} for stops in (False, True)
        }
