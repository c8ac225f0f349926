"""KTO's mismatched answers: of the next other prompt, and of another row even where all rows have one prompt; and what
is told of its two sides.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from conformance.world import Task
from tiny import make_llama

from luthier.core.component import build
from luthier.core.contracts import Objective, Row
from luthier.engine.step import measure
from luthier.models.roles import Models, role_of


def rows(prompts: list[int]) -> list[Row]:
    """Rows whose prompt is told by a number, with an answer of two tokens of their own."""
    return [
        Row(
            f"r:{number}",
            np.array([5, 6, 100 + prompt, 100 + prompt, 1000 + number, 1]),
            np.array([False, False, False, False, True, True]),
            branches=(3,),
        )
        for number, prompt in enumerate(prompts)
    ]


def mismatched(given: list[Row], seed: int = 1) -> list[int]:
    """The number of the row whose answer each row got."""
    objective = build("objectives", "kto")
    assert isinstance(objective, Objective)
    found = objective.complete(given, seed)
    assert [row.branches for row in found] == [(3, 3)] * len(given)
    assert all((row.ids[:6] == before.ids).all() for row, before in zip(found, given, strict=True))
    return [int(row.ids[7]) - 1000 for row in found]


def nearest_other(given: list[Row], prompts: list[int], seed: int) -> list[int]:
    """The same, step by step along the drawn order."""
    order = np.argsort(np.random.PCG64(seed).random_raw(len(given)), kind="stable").tolist()
    found = {}
    for place, index in enumerate(order):
        following = [order[(place + step) % len(order)] for step in range(1, len(order) + 1)]
        found[index] = next(other for other in following if prompts[other] != prompts[index])
    return [found[index] for index in range(len(given))]


@pytest.mark.parametrize("prompts", [[1, 2], [1, 1, 2], [2, 1, 1, 1], [1, 1, 2, 2, 1, 3, 1, 1], [7] * 20 + [8]])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_answer_is_that_of_the_next_other_prompt(prompts: list[int], seed: int) -> None:
    given = rows(prompts)
    found = mismatched(given, seed)
    assert found == nearest_other(given, prompts, seed)
    assert all(prompts[other] != prompt for other, prompt in zip(found, prompts, strict=True))


def test_where_all_rows_have_one_prompt_each_gets_another_rows_answer() -> None:
    """Its own would be no draw of the policy but what is learned, and the baseline would follow the reward."""
    found = mismatched(rows([1] * 6))
    assert sorted(found) == list(range(6))
    assert all(other != number for number, other in enumerate(found))
    assert mismatched(rows([1])) == [0]


def test_many_rows_with_one_prompt_take_no_square_of_time() -> None:
    given = rows([1] * 5000 + [2])
    began = time.process_time()
    mismatched(given)
    assert time.process_time() - began < 5


def test_rewards_and_lengths_are_told_by_side_however_the_step_is_cut() -> None:
    """Means over the good and over the bad answers of the step, by weight."""
    task = Task.of(build("objectives", "kto"))  # type: ignore[arg-type]
    models = Models(role_of(make_llama(seed=1), 0))
    found = [
        measure(task.objective, models, [task.batch(*cut) for cut in cuts]).figures
        for cuts in ([range(6)], [[0], [1, 2], [3, 4, 5]])
    ]
    lengths = [int(row.supervised[: len(row.ids) - row.branches[1]].sum()) for row in task.rows]
    good = [bool(row.fields["good"]) for row in task.rows]
    for figures in found:
        for name, wanted in (("good", True), ("bad", False)):
            ours = [length for length, side in zip(lengths, good, strict=True) if side == wanted]
            assert figures[f"tokens_{name}"] == pytest.approx(sum(ours) / len(ours))
            assert figures[f"reward_{name}"] == pytest.approx(found[0][f"reward_{name}"], rel=1e-5)
    assert found[0]["reward_good"] != pytest.approx(found[0]["reward_bad"], rel=1e-3)
