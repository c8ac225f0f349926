"""Variants of rows: what is edited, what stays, what is marked, and what is not added."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

import luthier
from luthier.core.component import build
from luthier.core.contracts import Step, StepContext
from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Data
from luthier.data.augment.draws import Draws, seed_of
from luthier.data.augment.texts import Job, kept_whole
from luthier.data.inputs import Inputs
from luthier.data.ledger import Ledger

TEXTS = (
    "Why did the machine not give me the 40 euros that I asked for?",
    "Please send {amount} to ann@example.com before Friday evening.",
    "My new card never came, and the Golden Lion branch is closed.",
    "Could you tell me what the exchange rate was this morning?",
)


def rows() -> list[Example]:
    return [Example(f"r:{n}", {"text": text}, Origin("r", n + 1), "card") for n, text in enumerate(TEXTS)]


def run(name: str, given: list[Example], seed: int = 1, **parameters: Any) -> tuple[list[Example], StepContext, Ledger]:
    others = parameters.pop("others", {})
    ledger = Ledger()
    context = StepContext("train", seed, ledger.page("train", name), others)
    step = build("steps", {name: parameters})
    assert isinstance(step, Step)
    return list(step.run(given, context)), context, ledger


def new(kept: list[Example]) -> list[Example]:
    return [row for row in kept if row.origin.synthetic]


WAYS = [("token_edits", {"rate": 0.3}), ("typos", {"rate": 0.5})]
each = pytest.mark.parametrize(("name", "options"), WAYS)


@each
def test_variants_follow_their_row_and_say_where_they_come_from(name: str, options: dict[str, Any]) -> None:
    given = [replace(row, groups={"branch": "north"}, weight=2.0) for row in rows()]
    kept, context, ledger = run(name, given, times=3, **options)
    assert [row for row in kept if not row.origin.synthetic] == given
    for variant in new(kept):
        parent = next(row for row in given if row.id == variant.origin.parents[0])
        assert variant.id.startswith(f"{parent.id}~{name}.")
        assert (variant.target, variant.groups, variant.weight) == (parent.target, parent.groups, parent.weight)
        assert variant.origin.steps[-1] == name
        assert variant.text() != parent.text()
    assert len(new(kept)) == context.facts["variants"] == len(ledger.entries) >= 10
    assert len({row.id for row in kept}) == len(kept) == len({row.text() for row in kept})
    assert all(entry.action == "added" for entry in ledger.entries)


@each
def test_what_is_protected_stays(name: str, options: dict[str, Any]) -> None:
    kept, _, _ = run(name, rows(), times=20, protect=["golden lion"], **options)
    for variant in new(kept):
        number = int(variant.origin.parents[0][2:])
        text = variant.text()
        held = (["40"], ["{amount}", "ann@example.com"], ["Golden Lion"], [])[number]
        held += (["not"], [], ["never"], [])[number] if name == "token_edits" else []
        assert [word for word in held if word not in text] == []


@each
def test_the_same_seed_gives_the_same_variants_whatever_else_is_there(name: str, options: dict[str, Any]) -> None:
    texts = [row.text() for row in new(run(name, rows(), times=2, **options)[0])]
    alone = [row.text() for one in rows() for row in new(run(name, [one], times=2, **options)[0])]
    assert texts == alone
    assert texts != [row.text() for row in new(run(name, rows(), seed=2, times=2, **options)[0])]


def test_token_edits_are_the_four_of_their_names() -> None:
    for kind, options in {
        kind: {"edits": [kind], "rate": 0.2} for kind in ("swap", "delete", "insert", "split")
    }.items():
        for variant in new(run("token_edits", rows(), times=5, **options)[0]):
            old, text = TEXTS[int(variant.origin.parents[0][2:])], variant.text()
            words, before = (re.findall(r"\w+", one) for one in (text, old))
            if kind == "swap":
                assert Counter(words) == Counter(before)
                assert sum(a != b for a, b in zip(words, before, strict=True)) >= 2
            elif kind == "delete":
                assert not Counter(words) - Counter(before)
                assert 1 <= len(before) - len(words) <= 3
                assert "  " not in text
            elif kind == "insert":
                assert words == before
                assert len(text) > len(old)
            else:
                assert text.replace(" ", "") == old.replace(" ", "")
                assert len(words) > len(before)


def test_typos_change_one_letter_and_never_the_first() -> None:
    for variant in new(run("typos", rows(), times=10, rate=0.4)[0]):
        old, text = TEXTS[int(variant.origin.parents[0][2:])].split(), variant.text().split()
        changed = [(a, b) for a, b in zip(old, text, strict=True) if a != b]
        assert changed
        for before, after in changed:
            assert before[0] == after[0]
            assert abs(len(before) - len(after)) <= 1
            assert sum((Counter(before) - Counter(after)).values()) <= 1


def test_a_neighbor_is_a_key_beside_the_key() -> None:
    from luthier.data.steps.typos import _neighbors

    assert set(_neighbors("qwerty")["g"]) == set("tyfhvb")
    assert set(_neighbors("qwertz")["z"]) == set("tughzu") - set("z")
    assert set(_neighbors("azerty")["a"]) == set("zq")


def test_answers_contexts_and_documents_stay_as_they_are() -> None:
    turns = (Turn("system", TEXTS[1]), Turn("user", TEXTS[0]), Turn("assistant", TEXTS[3]))
    given = [
        Example("m", {"messages": turns}, Origin("r", 1)),
        Example("q", {"question": TEXTS[0], "context": TEXTS[3]}, Origin("r", 2), ("morning",), {"answer_starts": "9"}),
        Example("d", {"text": TEXTS[2]}, Origin("r", 3)),
    ]
    kept, context, _ = run("typos", given)
    chat, question = new(kept)
    assert (chat.parts["messages"][0], chat.parts["messages"][2]) == (turns[0], turns[2])
    assert chat.parts["messages"][1].content != TEXTS[0]
    assert question.parts["context"] == TEXTS[3]
    assert question.parts["question"] != TEXTS[0]
    assert question.target == ("morning",)
    assert question.groups == {"answer_starts": "9"}
    assert context.facts["without"] == {"nothing to change": 1}


def test_a_text_without_a_class_is_changed_where_others_have_one() -> None:
    """Beside labeled texts it is an unlabeled row; by itself it is a document."""
    bare = Example("u", {"text": TEXTS[2]}, Origin("r", 9))
    kept, context, _ = run("typos", [*rows(), bare])
    (variant,) = [row for row in new(kept) if row.origin.parents == ("u",)]
    assert variant.target is None
    assert variant.parts["text"] != TEXTS[2]
    assert context.facts["without"] == {}


def test_tags_keep_their_words() -> None:
    tags = ("B-PER", "O", "O", "O", "B-LOC", "I-LOC", "O")
    given = [Example("t", {"tokens": "Margaret arrived yesterday from Golden Lion street"}, Origin("r", 1), tags)]
    kept, _, _ = run("typos", given, times=10, rate=1)
    for variant in new(kept):
        words = str(variant.parts["tokens"]).split(" ")
        assert len(words) == 7
        assert variant.target == tags
        assert (words[0], *words[4:6]) == ("Margaret", "Golden", "Lion")
    kept, context, _ = run("token_edits", given)
    assert kept == given
    assert context.facts["without"] == {"tags would no longer fit": 1}


def test_a_variant_that_stands_in_another_split_is_not_added() -> None:
    given = [Example("r:1", {"text": "my card"}, Origin("r", 1), "card")]
    swapped = replace(given[0], id="v", parts={"text": "Card my"})
    kept, context, _ = run("token_edits", given, edits=["swap"], others={"test": [swapped]})
    assert kept == given
    assert context.facts["without"] == {"equal to a row that is there": 1}
    assert len(run("token_edits", given, edits=["swap"])[0]) == 2


def test_variants_get_none_and_a_step_may_come_twice() -> None:
    once, _, _ = run("typos", rows())
    twice, context, _ = run("typos", once, seed=2)
    assert len({row.id for row in twice}) == len(twice) == 12
    assert context.facts["without"] == {"a variant itself": 4}
    assert all(row.origin.parents[0] in {f"r:{n}" for n in range(4)} for row in new(twice))


def test_a_share_of_the_rows_gets_variants() -> None:
    many = [replace(rows()[0], id=f"r:{n}", parts={"text": f"{TEXTS[3]} {n}"}) for n in range(400)]
    kept, context, _ = run("typos", many, share=0.25)
    assert 70 <= context.facts["chosen"] <= 130
    assert len(kept) - 400 == context.facts["variants"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "nothing was said"),
        ("pay {sum} to Ann by 5, please!", "the same words"),
        ("{sum} by 5.", "half as long, or twice"),
        ("By 6 o'clock Ann wants {sum}, please", "another number"),
        ("By 5 o'clock Ann wants it all, please", "what is protected was lost"),
        ("By 5 o'clock Ann wants {sum}, please", None),
    ],
)
def test_what_cannot_stand_for_the_text_is_refused(said: str, reason: str | None) -> None:
    text = "Pay {sum} to Ann by 5, please."
    found = kept_whole(Job(text, [(4, 9)], False, 1), said)
    assert (found.reason if found else None) == reason


def test_draws_depend_on_seed_and_names_alone() -> None:
    assert seed_of(1, "a", "b") != seed_of(1, "a\x00b", "")
    assert seed_of(1, "a") == 2964678013723640713
    draws = Draws(7)
    assert [draws.below(10) for _ in range(5)] == [3, 1, 6, 0, 5]
    assert Draws(7).some("abcdef", 3) == Draws(7).some("abcdef", 3)
    counts = Counter(Draws(n).weighted([("a", 3.0), ("b", 1.0)]) for n in range(2000))
    assert 0.72 < counts["a"] / 2000 < 0.78


def test_an_embedded_model_that_a_step_reads_is_no_file_of_the_user() -> None:
    data = Data.model_validate({"train": "rows.jsonl", "steps": [{"counterfactuals": {"fluency": "embedded:nano"}}]})
    assert Inputs().of_data(data)["embedded:nano"] == "embedded:nano"


def test_only_training_rows_get_variants_and_the_split_does_not_move(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps({"id": f"r{n}", "text": f"{TEXTS[n % 4]} Number {n}.", "label": "card"}) for n in range(60)]
    file.write_text("\n".join(lines), encoding="utf-8")
    plain = luthier.prepare(file, validation=0.3, test=0.2)
    more = luthier.prepare(file, ["typos", {"token_edits": {"times": 2}}], validation=0.3, test=0.2)
    for split in ("validation", "test"):
        assert list(more.splits[split]) == list(plain.splits[split])
    train = {row.id for row in plain.splits["train"]}
    variants = [row for row in more.splits["train"] if row.origin.synthetic]
    assert {row.id for row in more.splits["train"]} - {row.id for row in variants} == train
    assert {row.origin.parents[0] for row in variants} == train
    assert {fact["split"] for fact in more.facts} == {"train"}


PIECES = ("{x}", "I", "don't", "\ud800", "7", "[MASK]", " \t", "ﬁ")
HARD = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(PIECES)))


@settings(max_examples=60, deadline=None)
@drawn(st.lists(HARD.map(" ".join), min_size=1, max_size=5))
def test_any_text_is_taken(texts: list[str]) -> None:
    given_rows = [Example(f"t:{n}", {"text": text}, Origin("t", n), "c") for n, text in enumerate(texts)]
    for name, options in WAYS:
        kept, context, _ = run(name, given_rows, times=2, **options)
        assert [row for row in kept if not row.origin.synthetic] == given_rows
        assert kept == run(name, given_rows, times=2, **options)[0]
        assert context.facts["variants"] == len(new(kept))
        for variant in new(kept):
            parent = given_rows[int(variant.origin.parents[0][2:])]
            assert Counter(re.findall(r"\d|\{x\}", variant.text())) == Counter(re.findall(r"\d|\{x\}", parent.text()))
