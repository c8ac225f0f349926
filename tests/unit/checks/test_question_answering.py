"""The check of extractive answers: SQuAD's own rules, by hand and by the examples of its paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from luthier.checks.question_answering import QuestionAnswering
from luthier.core.evidence import CheckContext
from luthier.core.example import Example, Origin
from luthier.evaluate.findings import findings

CONTEXT = "In the winter of 1884 the workshop of Ada and Bo, in Mirecourt, burned down."


def example(name: str, *answers: str) -> Example:
    return Example(name, {"question": f"{name}?", "context": CONTEXT}, Origin("rows", 1), answers)


class Said:
    """A subject that finds these parts of the context; None: no answer is the likeliest."""

    name, about, task = "tuned", "by hand", "question_answering"

    def __init__(self, *parts: str | None) -> None:
        self.parts = parts

    def extract(self, examples: Sequence[Example]) -> list[list[Any]]:
        return [[window(part)] for part in self.parts]


def window(part: str | None) -> Any:
    """A window of characters, each a token, whose best answer is `part`; the first token says that there is none."""
    characters = np.array([[-1, -1], *([at, at + 1] for at in range(len(CONTEXT)))])
    logits = np.zeros((len(characters), 2))
    if part is None:
        logits[0] = 1.0
    else:
        begin = CONTEXT.index(part)
        logits[1 + begin, 0] = logits[begin + len(part), 1] = 5.0
    return np.concatenate([logits, characters], axis=1)


ITEMS = [
    example("exact but for article, case and punctuation", "Workshop of Ada"),
    example("of several references the best counts", "burned", "winter of 1884"),
    example("half of the words", "Ada and Bo of Mirecourt"),
    example("none, and none found"),
    example("none, but one found"),
    example("one, but none found", "Ada"),
]
SAID = Said("the workshop of Ada", "the winter of 1884", "Ada and Bo,", None, "Bo", None)


def measured(unanswerable: bool) -> dict[tuple[str, str | None], float]:
    check = QuestionAnswering()
    facts = {"span": {"stride": 8, "longest": 30, "unanswerable": unanswerable}}
    given = CheckContext(facts, 1, lambda path: ())
    scores = check.measure(SAID, ITEMS, given)  # type: ignore[arg-type]
    found = findings({"tuned": scores}, check.measures(facts), "question_answering", seed=1, resamples=50)
    return {(one.metric, one.group): one.value for one in found}


def test_a_sample_shows_the_question_and_its_passage() -> None:
    facts = {"span": {"stride": 8, "longest": 30, "unanswerable": True}}
    scores = QuestionAnswering().measure(SAID, ITEMS, CheckContext(facts, 1, lambda path: ()))  # type: ignore[arg-type]
    shown = {sample.prompt: (sample.wanted, sample.answer) for sample in scores.samples}
    assert shown[f"none, but one found?\n\n{CONTEXT}"] == ("(none)", "Bo")
    assert shown[f"one, but none found?\n\n{CONTEXT}"] == ("Ada", "(none)")


def test_scores_by_hand() -> None:
    found = measured(True)
    # Right: 1, 1, then 3 of 3 words of 5 (f1 3/4), 1, 0, 0.
    assert found["exact", None] == pytest.approx(3 / 6)
    assert found["f1", None] == pytest.approx((1 + 1 + 0.75 + 1 + 0 + 0) / 6)
    assert found["f1", "answerable"] == pytest.approx((1 + 1 + 0.75 + 0) / 4)
    assert found["exact", "unanswerable"] == pytest.approx(1 / 2)


def test_where_training_questions_all_have_answers_one_is_always_named() -> None:
    found = measured(False)
    assert set(found) == {("exact", None), ("f1", None)}
    assert found["exact", None] == pytest.approx(2 / 6), "what has no answer is then never right"
