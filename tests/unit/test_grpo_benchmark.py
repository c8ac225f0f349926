"""The benchmark of GRPO: what its rows say, and what is refused."""

from __future__ import annotations

import pytest

from benchmarks import grpo
from benchmarks._grpo_sides import letters


def result(rate: float, memory: float, tokens: float = 40.0) -> dict[str, float]:
    times = {"wall": 10.0, "cpu": 10.0, "threads": 1}
    return {**times, "steps_per_s": rate, "steps_per_cpu_s": rate, "peak_gb": memory, "answer_tokens": tokens}


def test_rates_are_ratios_with_their_floor() -> None:
    turns = [{"ours": result(5, 3), "other": result(1, 6)}, {"ours": result(6, 3), "other": result(2, 6)}]
    processor, wall, memory = grpo.rows_of("alike", turns, 4.0)
    assert (processor.value, processor.low, processor.high, processor.holds) == (4.0, 3.0, 5.0, True)
    assert wall.name == "alike: steps/s"
    assert (memory.value, memory.floor) == (2.0, None)


def test_sides_whose_answers_differ_in_length_are_refused() -> None:
    grpo.refuse_unlike({"ours": result(1, 1, 40), "other": result(1, 1, 36)})
    with pytest.raises(SystemExit, match="other work"):
        grpo.refuse_unlike({"ours": result(1, 1, 40), "other": result(1, 1, 20)})


def test_letters_are_as_many_as_the_steps_ask_for() -> None:
    found = letters(48)
    assert len(set(found)) == 48
    assert letters(8) == found[:8]
