"""balance and sources: the shares that come out, what stays the same, what is told (correctness 25)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.errors import DataError, RecipeError
from luthier.core.example import Example, Origin
from luthier.data.ledger import Entry, Ledger


def rows(**counts: int) -> list[Example]:
    """So many rows of each class, in turn; every second one is of domain "odd"."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [
        Example(f"r{n}", {"text": f"row {n} of words"}, Origin("f", n + 1), label, {"domain": ("even", "odd")[n % 2]})
        for n, label in enumerate(labels)
    ]


def run(step: Any, examples: list[Example], seed: int = 1) -> tuple[list[Example], list[Entry], dict[str, Any]]:
    ledger = Ledger()
    component = build("steps", step)
    context = StepContext("train", seed, ledger.page("train", component.component_name()))
    kept = list(component.run(iter(examples), context))
    json.dumps(context.facts, allow_nan=False)
    return kept, list(ledger.entries), context.facts


def mass(examples: list[Example]) -> dict[Any, float]:
    """What each class counts in an epoch: repeats times weights."""
    found: dict[Any, float] = defaultdict(float)
    for example in examples:
        found[example.target] += example.repeat * example.weight
    return found


# ---- balance ---------------------------------------------------------------------------------------------------------


def test_rows_of_rare_classes_are_repeated_until_classes_are_equal() -> None:
    kept, told, facts = run("balance", rows(a=30, b=10, c=5))
    assert mass(kept) == pytest.approx({"a": 30, "b": 30, "c": 30})
    assert {row.target: row.repeat for row in kept} == pytest.approx({"a": 1, "b": 3, "c": 6})
    assert len(kept) == 45
    assert Counter(entry.kind for entry in told) == {"repeat": 15}
    assert facts["largest"]["c"] == {"rows": 5, "share": 0.111111, "share to have": 0.333333, "repeat times": 6.0}


def test_weights_leave_the_mean_of_an_epoch_as_it_was() -> None:
    kept, _, _ = run({"balance": {"how": "weight"}}, rows(a=30, b=10, c=5))
    assert mass(kept) == pytest.approx({"a": 15, "b": 15, "c": 15})
    assert all(row.repeat == 1 for row in kept)


def test_what_rows_weigh_already_is_reckoned_in() -> None:
    from dataclasses import replace

    given = [replace(row, repeat=2.0, weight=0.5) if row.target == "b" else row for row in rows(a=30, b=10)]
    assert mass(run({"balance": {"how": "weight"}}, given)[0]) == pytest.approx({"a": 20, "b": 20})
    kept = run({"balance": {"how": "repeat"}}, given)[0]
    assert {row.target: row.repeat for row in kept} == pytest.approx({"a": 1, "b": 3})


def test_rows_are_dropped_by_draws_of_their_own() -> None:
    given = rows(a=30, b=10, c=5)
    kept, told, _ = run({"balance": {"how": "drop"}}, given)
    assert Counter(row.target for row in kept) == {"a": 5, "b": 5, "c": 5}
    assert len(told) == 30
    assert {entry.reason for entry in told} == {"beyond its share: a", "beyond its share: b"}
    # Which of the rows of a class stay does not hang on the others.
    fewer, _, _ = run({"balance": {"how": "drop"}}, [row for row in given if row.target != "b"])
    assert [row for row in kept if row.target == "a"] == [row for row in fewer if row.target == "a"]
    assert kept != run({"balance": {"how": "drop"}}, given, seed=2)[0]


def test_a_stratified_sample_has_the_shares_of_the_whole() -> None:
    step = {"balance": {"how": "drop", "temperature": 1, "size": 50, "by": ["label", "domain"]}}
    kept, _, _ = run(step, rows(a=300, b=100, c=100))
    assert Counter((row.target, row.groups["domain"]) for row in kept) == {
        ("a", "even"): 15, ("a", "odd"): 15, ("b", "even"): 5, ("b", "odd"): 5, ("c", "even"): 5, ("c", "odd"): 5
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 2}, {"a": 0.75, "b": 0.25}),
        ({"effective": 0.0}, {"a": 0.9, "b": 0.1}),
        ({"shares": {"b": 0.4}}, {"a": 0.6, "b": 0.4}),
    ],
)
@pytest.mark.parametrize("how", ["repeat", "weight", "drop"])
def test_shares_come_out_however_they_are_reached(how: str, options: Any, expected: dict[str, float]) -> None:
    found = mass(run({"balance": {"how": how, **options}}, rows(a=900, b=100))[0])
    assert {name: value / sum(found.values()) for name, value in found.items()} == pytest.approx(expected, abs=0.002)


def test_a_limit_holds_repeats_down_and_a_share_of_nothing_drops() -> None:
    kept, _, _ = run({"balance": {"limit": 4}}, rows(a=100, b=1))
    assert max(row.repeat for row in kept) == 4
    kept, told, _ = run({"balance": {"shares": {"b": 0}}}, rows(a=5, b=3))
    assert Counter(row.target for row in kept) == {"a": 5}
    assert {entry.reason for entry in told} == {"its share is 0: b"}


def test_lengths_are_strata_of_powers_of_two() -> None:
    given = [Example(f"r{n}", {"text": "word " * n}, Origin("f", n + 1)) for n in (0, 1, 2, 3, 4, 7, 8)]
    facts = run({"balance": {"by": "length"}}, given)[2]
    assert {name: one["rows"] for name, one in facts["largest"].items()} == {
        "0 to 0 words": 1, "1 to 1 words": 1, "2 to 3 words": 2, "4 to 7 words": 2, "8 to 15 words": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "domian"}, "no row has the group 'domian'.*did you mean 'domain'"),
        ({"shares": {"aa": 0.5}}, "no row is of 'aa'"),
    ],
)
def test_what_is_not_there_is_refused(options: Any, words: str) -> None:
    with pytest.raises(DataError, match=f"(?s){words}"):
        run({"balance": options}, rows(a=5, b=3))


def test_rows_without_a_class_are_refused_where_classes_are_asked_for() -> None:
    with pytest.raises(DataError, match="no row has a label"):
        run("balance", [Example("r", {"text": "a"}, Origin("f", 1))])


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2, "effective": 0.9},
        {"size": 5},
        {"how": "drop", "limit": 3},
        {"shares": {"a": 0.7, "b": 0.7}},
        {"shares": {"a": -0.1}},
    ],
    ids=repr,
)
def test_contradictions_are_refused_before_any_row_is_read(options: Any) -> None:
    with pytest.raises(RecipeError):
        build("steps", {"balance": options})


def test_only_training_rows_are_balanced(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "".join(json.dumps({"text": f"row {n}", "label": "ab"[n % 10 == 0]}) + "\n" for n in range(200)),
        encoding="utf-8",
    )
    found = luthier.prepare(file, steps=["balance"], test=0.3)
    assert {row.repeat for row in found.splits["test"]} == {1.0}
    assert mass(list(found.splits["train"]))["a"] == pytest.approx(mass(list(found.splits["train"]))["b"])
    assert [fact["split"] for fact in found.facts] == ["train"]


# ---- sources ---------------------------------------------------------------------------------------------------------


def two_sources() -> list[Example]:
    texts = {
        "varied": [f"{n} {n * 7919 % 10007} {n * 104729 % 99991} and {n * 31 % 977} of things" for n in range(60)],
        "same": ["the very same sentence comes again and again here"] * 20,
    }
    return [
        Example(f"{name}{n}", {"text": text}, Origin(f"{name}.jsonl", n + 1), "ab"[n % 2], {"domain": name})
        for name, some in texts.items()
        for n, text in enumerate(some)
    ]


@pytest.mark.parametrize("by", ["file", "domain"])
def test_sources_are_counted_and_measured_and_nothing_is_changed(by: str) -> None:
    given = two_sources()
    kept, told, facts = run({"sources": {"by": by}}, given)
    assert (kept, told) == (given, [])
    names = ("varied.jsonl", "same.jsonl") if by == "file" else ("varied", "same")
    varied, same = (facts["of each"][name] for name in names)
    assert (varied["rows"], same["rows"], varied["share of an epoch's rows"]) == (60, 20, 0.75)
    assert same["words"] == 180
    assert same["largest classes"] == {"a": 10, "b": 10}
    assert same["Vendi score"] == pytest.approx(1, abs=1e-3)
    assert 20 < varied["Vendi score"] <= 60
    assert same["distinct 2"] < 0.1 < 0.5 < varied["distinct 2"]
    assert same["compression ratio"] > 3 * varied["compression ratio"]
    assert same["mean cosine distance"] == pytest.approx(0, abs=1e-4)


def test_what_sources_share_is_told_in_both_directions() -> None:
    given = two_sources()
    again = Example("again", given[-1].parts, Origin("third.jsonl", 1))
    facts = run("sources", [*given, again])[2]
    assert facts["share of runs of five words that are in"] == {
        "same.jsonl": {"third.jsonl": 1.0},
        "third.jsonl": {"same.jsonl": 1.0},
    }


def test_mixtures_say_how_often_rows_would_come() -> None:
    mixtures = run("sources", two_sources())[2]["mixtures"]
    assert mixtures["as it is"]["same.jsonl"] == {"share": 0.25, "times": 1.0}
    assert mixtures["equal"]["same.jsonl"] == {"share": 0.5, "times": 3.0}
    assert mixtures["temperature 2"]["same.jsonl"]["times"] == pytest.approx(3**0.5, abs=1e-3)


def test_rows_that_come_more_often_count_more_in_an_epoch() -> None:
    from dataclasses import replace

    given = [replace(row, repeat=3.0) if row.groups["domain"] == "same" else row for row in two_sources()]
    assert run("sources", given)[2]["of each"]["same.jsonl"]["share of an epoch's rows"] == 0.5
