"""Checks on preferences, rewards and wins: what is counted, ties, and what length has to do with it, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from luthier.checks.preferences import Preferences
from luthier.checks.reward_accuracy import RewardAccuracy
from luthier.checks.win_rate import WinRate
from luthier.core.errors import DataError
from luthier.core.evidence import Check, CheckContext
from luthier.core.example import Example, Origin, Turn

PROMPT = (Turn("user", "How long?"),)


def row(number: int, target: Any = None, **answers: str) -> Example:
    parts = {"prompt": PROMPT, **{name: (Turn("assistant", text),) for name, text in answers.items()}}
    return Example(f"r:{number}", parts, Origin("r.jsonl", number), target)


def context(**facts: Any) -> CheckContext:
    return CheckContext(facts, 1, lambda path: [])


class Told:
    """A subject that says of each text what it was told: log-probability and tokens, a reward, or an answer."""

    name, about, task = "tuned", "told", "causal_lm"

    def __init__(self, known: dict[str, Any]) -> None:
        self.known = known

    def answers(self, examples: Any, names: Any) -> Any:
        return [np.array([self.known[one.parts[name][-1].content] for name in names], dtype=float) for one in examples]

    def rewards(self, examples: Any) -> Any:
        answers = [[part for name, part in one.parts.items() if name != "prompt"] for one in examples]
        return [np.array([self.known[part[-1].content] for part in parts], dtype=float) for parts in answers]

    def generate(self, examples: Any) -> Any:
        return [self.known[one.id] for one in examples]


def means(check: Any, rows: list[Example], tuned: Told, base: Told | None = None, **facts: Any) -> dict[str, float]:
    """Every number of the check; those against base where there is one."""
    given = context(**facts)
    examples = check.examples(rows, given)
    ours = check.measure(tuned, examples, given).values
    theirs = check.measure(base, examples, given).values if base is not None else None
    found = {}
    for measure in check.measures(facts):
        values = ours[measure.source or measure.name]
        if measure.against is not None:
            if theirs is None:
                continue
            values = np.concatenate([values, theirs[measure.source or measure.name]], axis=1)
        found[measure.name] = float(measure.aggregate(values))
    return found


def test_pairs_are_compared_by_sums_by_token_and_with_base() -> None:
    """Margins 2, -3 and 0 by sums, 0.5, 0.5 and -1 by token; of base -1, -4 and 0: two of three rose, one stayed."""
    rows = [row(1, chosen="a", rejected="b"), row(2, chosen="c", rejected="d"), row(3, chosen="e", rejected="f")]
    tuned = Told({"a": (-2, 4), "b": (-4, 4), "c": (-6, 4), "d": (-3, 1.5), "e": (-4, 2), "f": (-4, 4)})
    base = Told({"a": (-5, 4), "b": (-4, 4), "c": (-8, 4), "d": (-4, 1.5), "e": (-1, 2), "f": (-1, 4)})
    found = means(Preferences(), rows, tuned, base)
    assert found["accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found["accuracy_per_token"] == pytest.approx((1 + 1 + 0) / 3)
    assert found["reward_accuracy"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert found["reward_margin"] == pytest.approx((3 + 1 + 0) / 3)
    longer = [0.0, 2.5, -2.0]
    assert found["length_correlation"] == pytest.approx(np.corrcoef([2, -3, 0], longer)[0, 1])


def test_of_a_ranking_the_best_is_held_against_the_next_that_is_not_as_good() -> None:
    tied = row(1, ("5", "5", "2"), chosen="a", rejected="b", rejected_2="c")
    found = means(Preferences(), [tied], Told({"a": (-2, 1), "b": (-1, 1), "c": (-3, 1)}))
    assert found["accuracy"] == 1


@pytest.mark.parametrize(
    ("check", "names"),
    [
        (Preferences(), {"accuracy", "accuracy_per_token", "reward_accuracy"}),
        (RewardAccuracy(), {"accuracy"}),
        (WinRate(pattern="a"), {"win_rate"}),
    ],
    ids=["preferences", "reward_accuracy", "win_rate"],
)
def test_what_holds_for_every_pair_is_a_share_and_not_certain(check: Check, names: set[str]) -> None:
    facts = {"kind": "pairs"}
    assert {measure.name for measure in check.measures(facts) if measure.share} == names


def test_rows_without_pairs_are_no_items() -> None:
    with pytest.raises(DataError, match="none of the 1 rows is a pair"):
        Preferences().examples([row(1, completion="a")], context())


def test_a_reward_model_is_right_where_the_chosen_answer_gets_more() -> None:
    """Rewards 2 : 1, 1 : 1 and 0 : 3, of answers that are 3, 0 and -2 characters longer."""
    rows = [row(1, chosen="aaaa", rejected="b"), row(2, chosen="cc", rejected="dd"), row(3, chosen="e", rejected="fff")]
    told = Told({"aaaa": 2, "b": 1, "cc": 1, "dd": 1, "e": 0, "fff": 3})
    found = means(RewardAccuracy(), rows, told, kind="pairs")
    assert found["accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found["margin"] == pytest.approx((1 + 0 - 3) / 3)
    assert found["length_correlation"] == pytest.approx(np.corrcoef([1, 0, -3], [3, 0, -2])[0, 1])


def test_tied_answers_of_a_ranking_are_no_pair() -> None:
    """Of 5, 3, 3 and 1 five pairs are told apart; the rewards 4, 1, 2 and 3 put three of them right."""
    ranking = row(1, ("5", "3", "3", "1"), chosen="a", rejected="b", rejected_2="c", rejected_3="d")
    found = means(RewardAccuracy(), [ranking], Told({"a": 4, "b": 1, "c": 2, "d": 3}), kind="rankings")
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["margin"] == 1


def test_ratings_and_labels_are_held_against_rewards() -> None:
    rated = [row(1, 4.0, completion="a"), row(2, 1.0, completion="bb"), row(3, 3.0, completion="cccc")]
    found = means(RewardAccuracy(), rated, Told({"a": 1.0, "bb": 0.5, "cccc": 2.0}), kind="ratings")
    assert found["correlation"] == pytest.approx(np.corrcoef([1, 0.5, 2], [4, 1, 3])[0, 1])
    assert found["length_correlation"] == pytest.approx(np.corrcoef([1, 0.5, 2], [1, 2, 4])[0, 1])
    labeled = [row(1, "good", completion="a"), row(2, "bad", completion="bb"), row(3, "good", completion="cccc")]
    found = means(RewardAccuracy(), labeled, Told({"a": 1.0, "bb": 1.0, "cccc": 2.0}), kind="labels")
    assert found["accuracy"] == pytest.approx((0.5 + 1) / 2)


def test_wins_are_over_base_and_told_with_what_length_did() -> None:
    """A win, a loss and a tie; the answers are 1, 1 and -4 characters longer than base's."""
    rows = [row(number, chosen="a", rejected="b") for number in (1, 2, 3)]
    tuned, base = Told({"r:1": "yes!", "r:2": "no", "r:3": "no"}), Told({"r:1": "not", "r:2": "y", "r:3": "no, no"})
    found = means(WinRate(pattern="^y"), rows, tuned, base)
    assert found["win_rate"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found["score"] == pytest.approx(1 / 3)
    assert found["length"] == pytest.approx(8 / 3)
    assert found["length_correlation"] == pytest.approx(np.corrcoef([1, -1, 0], [1, 1, -4])[0, 1])
