"""The benchmarks of encoders: turns between processes, ratios of rounds, the rows that both sides see, the accuracy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks import _classify_sides, _embed_sides, _turns, classify, embed
from benchmarks._turns import ALLOCATOR, Turns, compared, even_settings, sides


def doubles(settings: Mapping[str, Any], turns: Turns) -> None:
    kept = {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}
    for request in turns:
        found = request * settings["times"]
        turns.answer({"found": found, "threads": os.environ.get("OMP_NUM_THREADS"), "allocator": kept})


def breaks(settings: Mapping[str, Any], turns: Turns) -> None:
    raise ValueError("a side of clay")


def vanishes(settings: Mapping[str, Any], turns: Turns) -> None:
    os._exit(3)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> int:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", *ALLOCATOR):
        monkeypatch.setenv(name, "1")
    return even_settings(3)


def test_sides_answer_in_processes_of_their_own_with_the_same_threads_and_allocator(threads: int) -> None:
    with sides({"a": (doubles, {"times": 2}), "b": (doubles, {"times": 3})}) as started:
        assert [started["a"].turn(5), started["b"].turn(5), started["a"].turn(7)] == [
            {"found": found, "threads": str(threads), "allocator": ALLOCATOR} for found in (10, 15, 14)
        ]
        processes = [side._process for side in started.values()]
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.mark.parametrize(("work", "told"), [(breaks, "a side of clay"), (vanishes, r"without an answer \(status 3\)")])
def test_a_side_that_fails_ends_the_benchmark_and_says_why(work: _turns.Work, told: str) -> None:
    with sides({"a": (work, {})}) as started, pytest.raises(SystemExit, match=told):
        started["a"].turn(1)


def answer(tokens: int, wall: float, cpu: float) -> dict[str, float]:
    return {"tokens": tokens, "wall": wall, "cpu": cpu}


def test_ratios_are_medians_of_rounds() -> None:
    rounds = [
        {"ours": answer(100, 1, 1), "other": answer(100, 2, 2)},
        {"ours": answer(100, 1, 1), "other": answer(100, 4, 4)},
        {"ours": answer(200, 2, 4), "other": answer(100, 3, 3)},
    ]
    cpu, wall = compared("x", rounds, "other", 2.5, threads=1)
    assert (wall.value, wall.low, wall.high, wall.floor) == (3.0, 2.0, 4.0, 2.5)
    assert (wall.ours, wall.other) == (400 / 4, 300 / 9)
    assert (cpu.value, cpu.low, cpu.high, cpu.floor) == (2.0, 1.5, 4.0, 2.5)
    assert (cpu.ours, cpu.holds, wall.holds) == (400 / 6, False, True)


@pytest.mark.parametrize(("waiting", "threads"), [(answer(100, 5, 1), 1), (answer(100, 1, 1), 2)])
def test_wall_time_says_nothing_where_a_turn_was_kept_waiting(waiting: dict[str, float], threads: int) -> None:
    even = answer(100, 1, threads)
    rounds = [{"ours": even, "other": even}, {"ours": even, "other": waiting}]
    assert [row.name for row in compared("x", rounds, "other", 1.0, threads)] == [
        "x: useful tokens per processor second"
    ]
    assert len(compared("x", rounds[:1], "other", 1.0, threads)) == 2


def test_the_least_cosine_is_of_all_texts_whatever_the_vectors_lengths() -> None:
    exact = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    off = np.array([[2.0, 0.0], [0.0, 1.0], [4.0, 3.0]], dtype=np.float32)
    times = {"tokens": 1, "wall": 1.0, "cpu": 1.0}
    answers = {"ours": off, "float32": exact, "bfloat16": exact}
    rounds = [{name: {**times, "vectors": vectors} for name, vectors in answers.items()}]
    *_, cosine = embed.rows_of("x", rounds, {"float32": 32, "bfloat16": 64}, 1)
    assert cosine.value == pytest.approx(24 / 25)
    assert not cosine.holds
    assert cosine.other == pytest.approx(1.0)


@pytest.mark.parametrize("benchmark", [_classify_sides, _embed_sides])
def test_no_side_sets_the_allocator_for_itself(benchmark: ModuleType) -> None:
    # Like for like means that the environment of all sides says it: _turns.even_settings.
    assert "keep_memory" not in Path(str(benchmark.__file__)).read_text(encoding="utf-8")


@pytest.mark.parametrize(("best", "found"), [(128, 128), (4, 4), (32, 32), (1000, 64)])
def test_the_peers_batch_is_searched_beyond_its_default_on_all_texts_but_no_further(best: int, found: int) -> None:
    tried = []

    class Peer:
        def turn(self, request: Mapping[str, Any]) -> dict[str, float]:
            tried.append(request["batch"])
            return {"cpu": abs(np.log2(request["batch"] / best))}

    texts = ["text"] * (50 if best == 1000 else 500)
    assert embed.fastest(Peer(), texts) == found  # type: ignore[arg-type]
    assert tried[:2] == [32, 32]  # the first touch of memory is not rated
    assert found * 2 in tried or found == 64


def test_every_epoch_has_each_row_at_most_once_in_an_order_of_its_own() -> None:
    steps = _classify_sides.rows_of_steps(300, 5)
    assert [len(step) for step in steps] == [128] * 5
    first, second = steps[0] + steps[1], steps[2] + steps[3]
    assert len(set(first)) == len(set(second)) == 256
    assert first != second
    assert max(first) < 300
    assert _classify_sides.rows_of_steps(300, 5) == steps


def test_a_training_goes_on_for_the_steps_that_are_asked_for() -> None:
    class Asked:
        def __init__(self, *requests: Any) -> None:
            self.requests, self.answers = requests, []

        def __iter__(self) -> Iterator[Any]:
            return iter(self.requests)

        def answer(self, value: Mapping[str, Any]) -> None:
            self.answers.append(value)

    asked = Asked(1, 2, "classes")
    pace = _classify_sides._Pace(asked)  # type: ignore[arg-type]
    pace.start()
    for number, tokens in enumerate((10, 20, 30), 1):
        pace.step(tokens, last=number == 3)
    pace.name_classes([4, 5])
    assert [answer["tokens"] for answer in asked.answers[:2]] == [10, 50]
    assert asked.answers[2] == {"classes": [4, 5]}
    ended = _classify_sides._Pace(Asked(1))  # type: ignore[arg-type]
    ended.start()
    with pytest.raises(_classify_sides.EndOfTurns):
        ended.step(10, last=False)


def test_accuracies_are_compared_on_the_same_texts() -> None:
    wanted = [0, 1, 2, 3]
    row = classify.accuracy([[0, 1, 2, 0], [0, 1, 0, 0]], wanted)
    assert (row.ours, row.other, row.value) == (0.75, 0.5, 0.25)
    # One of four differs: variance 1/4 - 1/16.
    assert row.high == pytest.approx(0.25 + 1.96 * (3 / 16 / 4) ** 0.5)
    assert row.holds
    assert not classify.accuracy([[1, 1, 2, 3], [0, 1, 2, 3]], wanted).holds


def test_absent_data_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUTHIER_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"tasks/banking77/train\.csv is absent: set LUTHIER_DATA"):
        embed.banking()
    monkeypatch.delenv("LUTHIER_DATA")
    with pytest.raises(SystemExit, match="set LUTHIER_DATA"):
        classify.messages("train")
