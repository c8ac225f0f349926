"""The seconds of steps, by what took them."""

from __future__ import annotations

import pytest

from luthier.engine import meter
from luthier.engine.meter import Meter


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_the_parts_of_a_step_and_the_rest_are_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, found = Clock(), Meter()
    monkeypatch.setattr(meter, "time", clock)

    def step(**seconds: float) -> dict[str, float]:
        found.start()
        for name, spent in seconds.items():
            if name == "rest":
                clock.now += spent
            else:
                with found.part(name):
                    clock.now += spent
        return found.stop(tokens=10, supervised=4)

    assert step(data=1.0, forward=2.0, rest=0.5, backward=4.0) == {
        "data": 1.0,
        "forward": 2.0,
        "backward": 4.0,
        "rest": 0.5,
        "step": 7.5,
    }
    clock.now += 50.0  # a validation between steps
    assert step(data=0.25, forward=1.0, rest=0.25, backward=1.0)["rest"] == 0.25
    assert found.parts == {"data": 1.25, "forward": 3.0, "backward": 5.0, "rest": 0.75}
    assert found.seconds == sum(found.parts.values()) == 10.0


def test_a_meter_that_goes_on_from_a_checkpoint_counts_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    found = Meter(tokens=5, supervised=2, seconds=3.0, parts={"data": 1.0, "forward": 1.5, "rest": 0.5})
    found.start()
    with found.part("data"):
        clock.now += 2.0
    assert found.stop(1, 1) == {"data": 2.0, "forward": 0.0, "rest": 0.0, "step": 2.0}
    assert found.parts == {"data": 3.0, "forward": 1.5, "rest": 0.5}
