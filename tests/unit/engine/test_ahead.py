"""Batches prepared ahead are those of the rows, whatever was foreseen; errors come out; the thread ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from luthier.engine.ahead import Ahead

Made = list[tuple[Any, ...]]


def recording() -> tuple[Made, Any]:
    made: Made = []

    def make(step: int, rows: Sequence[int], micro_tokens: int) -> Any:
        assert rows[0] == step
        made.append((tuple(rows), micro_tokens, threading.current_thread() is threading.main_thread()))
        if 13 in rows:
            raise RuntimeError("row 13")
        return [f"{list(rows)} in {micro_tokens}"]

    return made, make


def rows_of(step: int) -> list[int]:
    return [step, step + 10]


def test_the_step_after_is_made_in_the_thread() -> None:
    made, make = recording()
    ahead = Ahead(rows_of, make, total=3)
    assert [ahead.take(step, rows_of(step), 8) for step in range(3)] == [[f"{rows_of(step)} in 8"] for step in range(3)]
    ahead.close()
    assert made == [((0, 10), 8, True), ((1, 11), 8, False), ((2, 12), 8, False)]  # and nothing beyond the last
    assert not any("batches" in thread.name for thread in threading.enumerate())


def test_what_was_foreseen_otherwise_is_made_anew() -> None:
    made, make = recording()
    ahead = Ahead(rows_of, make, total=9)
    ahead.take(0, rows_of(0), 8)
    assert ahead.take(1, rows_of(1), 4) == ["[1, 11] in 4"]  # memory ran out: smaller micro-batches
    assert ahead.take(1, rows_of(1), 4) == ["[1, 11] in 4"]  # the same step again
    ahead.close()
    assert ((1, 11), 4, True) in made


def test_an_error_comes_out_where_its_step_is_taken() -> None:
    _, make = recording()
    ahead = Ahead(rows_of, make, total=9)
    ahead.take(2, rows_of(2), 8)
    with pytest.raises(RuntimeError, match="row 13"):
        ahead.take(3, rows_of(3), 8)
    ahead.close()
