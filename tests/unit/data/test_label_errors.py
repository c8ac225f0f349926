"""Planted wrong labels are found, and told, dropped or put right as is asked for."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from luthier.core.contracts import StepContext
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger
from luthier.data.steps.label_errors import LabelErrors

WORDS = {
    "strings": ["violin", "bow", "cello", "peg", "string"],
    "brass": ["horn", "valve", "trumpet", "mouthpiece", "slide"],
    "keys": ["piano", "pedal", "hammer", "organ", "keyboard"],
}


def rows(count: int = 240, wrong: int = 20) -> tuple[list[Example], set[str]]:
    draw = random.Random(2)
    found = []
    for number in range(count):
        name = list(WORDS)[number % 3]
        text = f"a {draw.choice(WORDS[name])} with a {draw.choice(WORDS[name])} and a {draw.choice(WORDS[name])}"
        found.append(Example(f"r:{number}", {"text": text}, Origin("r", number + 1), target=name))
    planted = draw.sample(range(count), wrong)
    for at in planted:
        other = draw.choice([name for name in WORDS if name != found[at].target])
        found[at] = replace(found[at], target=other)
    return found, {f"r:{at}" for at in planted}


def run(step: LabelErrors, given: list[Example]) -> tuple[list[Example], Ledger, StepContext]:
    ledger = Ledger()
    context = StepContext("train", 1, ledger.page("train", "label_errors"))
    return list(step.run(given, context)), ledger, context


def test_planted_errors_are_noted_with_what_they_look_like() -> None:
    given, planted = rows()
    kept, ledger, context = run(LabelErrors(encoder=None), given)
    noted = {entry.id for entry in ledger.entries}
    assert kept == given
    assert len(noted & planted) >= 18
    assert len(noted - planted) <= 3
    truth = {example.id: list(WORDS)[int(example.id[2:]) % 3] for example in given}
    right = [entry for entry in ledger.entries if f"looks like {truth[entry.id]}, " in entry.reason]
    assert len(right) >= 0.9 * len(noted)
    assert context.facts["probably_wrong"] == len(noted) == sum(context.facts["taken_for"].values())


def test_how_probable_an_error_must_be_is_a_parameter() -> None:
    given, _ = rows()
    counts = []
    for least in (0.02, 0.5, 0.999):
        _, ledger, _ = run(LabelErrors(encoder=None, least=least), given)
        counts.append(len(ledger.entries))
    assert counts[0] > counts[1] > counts[2]


def test_a_row_gets_no_label_that_is_less_probable_than_its_own() -> None:
    given, _ = rows()
    kept, ledger, _ = run(LabelErrors(encoder=None, action="relabel", least=0.02), given)
    actions = Counter(entry.action for entry in ledger.entries)
    assert actions["noted"] > 0
    assert actions["changed"] > 0
    for entry in ledger.entries:
        others, mine = map(float, entry.reason.rpartition(", ")[2].split(" against "))
        assert others >= mine if entry.action == "changed" else others <= mine
    assert len(kept) == len(given)


def test_they_leave_or_are_put_right() -> None:
    given, planted = rows()
    kept, ledger, _ = run(LabelErrors(encoder=None, action="drop"), given)
    assert {entry.id for entry in ledger.entries} == {row.id for row in given} - {row.id for row in kept}
    kept, ledger, _ = run(LabelErrors(encoder=None, action="relabel"), given)
    changed = {entry.id for entry in ledger.entries}
    truth = [row.target == list(WORDS)[int(row.id[2:]) % 3] for row in kept]
    assert sum(truth) > len(given) - len(planted) + 14
    assert {row.id for row in kept if row.origin.steps} == changed


def test_what_cannot_be_judged_is_told() -> None:
    given, _ = rows(9, 0)
    with pytest.raises(DataError, match="no row has a label"):
        run(LabelErrors(encoder=None), [replace(row, target=None) for row in given])
    with pytest.raises(DataError, match="all rows have the class 'keys'"):
        run(LabelErrors(encoder=None), [replace(row, target="keys") for row in given])
    assert run(LabelErrors(encoder=None), [])[0] == []
    assert len(run(LabelErrors(encoder=None), given[:2])[0]) == 2


def test_rows_without_a_class_are_left_alone_and_classes_keep_their_type() -> None:
    given, _ = rows()
    numbers = {name: float(at) for at, name in enumerate(WORDS)}
    given = [replace(row, target=numbers[str(row.target)]) for row in given]
    given[5:5] = [replace(given[0], id="r:none", target=None)]
    kept, ledger, context = run(LabelErrors(encoder=None, action="relabel"), given)
    assert kept[5].target is None
    assert context.facts["rows"] == len(given) - 1
    assert "r:none" not in {entry.id for entry in ledger.entries}
    assert {row.target for row in kept} == {0.0, 1.0, 2.0, None}
