"""What the experiment on preferences compares: customers apart, labels of both answers, a control without content."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.preferences import LONGEST, control, fitting, labeled, split

PAIRS = [
    {"id": f"p{number}", "customer": f"c{number % 23}", "prompt": "a", "chosen": "b", "rejected": "c"}
    for number in range(100)
]


def test_a_quarter_is_held_out_by_customer() -> None:
    train, test = split(PAIRS)
    assert len(train) + len(test) == 100
    assert 25 <= len(test) < 31
    assert not {row["customer"] for row in train} & {row["customer"] for row in test}
    assert split(PAIRS) == (train, test)


def test_each_answer_gets_its_label() -> None:
    rows = labeled(PAIRS[:2])
    assert [(row["completion"], row["label"]) for row in rows] == [("b", True), ("c", False)] * 2
    assert len({row["id"] for row in rows}) == 4


def test_in_the_control_half_of_the_pairs_are_swapped() -> None:
    swapped = [row["chosen"] == "c" for row in control(PAIRS)]
    assert sum(swapped) == 50
    assert control(PAIRS) == control(PAIRS)


def test_only_pairs_that_fit_are_judged(tmp_path: Path) -> None:
    rows = [{"input": "a" * size, "output_1": "b", "output_2": "c", "label": 1} for size in (10, LONGEST)]
    (tmp_path / "natural.json").write_text(json.dumps(rows), encoding="utf-8")
    assert fitting(tmp_path / "natural.json") == rows[:1]
