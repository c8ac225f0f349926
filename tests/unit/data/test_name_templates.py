"""Sentences that are made with tagged names: their spans by hand, where they come from, what is refused."""

from __future__ import annotations

import re

import pytest

from luthier.core.contracts import StepContext
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin
from luthier.data.augment.draws import Draws
from luthier.data.ledger import Ledger
from luthier.data.steps.name_templates import NameTemplates
from luthier.data.tagged.made import KINDS, MARKED, Sentence, expanded, in_tags, made, rules
from luthier.data.tagged.words import words_in
from luthier.functional.tagging import follows, spans_of


def row(tokens: str, tags: str, number: int = 1) -> Example:
    return Example(f"r:{number}", {"tokens": tokens}, Origin("r.conll", number), tuple(tags.split()))


ROWS = [
    row("Ada Lovelace met Bob in Ulm .", "B-PER I-PER O B-PER O B-LOC O", 1),
    row("Acme pays Eve", "B-ORG O B-PER", 2),
    row("nobody is here", "O O O", 3),
]


def run(step: NameTemplates, rows: list[Example], seed: int = 3) -> tuple[list[Example], Ledger, dict[str, object]]:
    ledger = Ledger()
    context = StepContext("train", seed, ledger.page("train", "name_templates"))
    return list(step.run(rows, context)), ledger, context.facts


def test_words_are_cut_as_tagged_corpora_cut_them() -> None:
    text = "Mr. O'Brien's AT&T bill, 1,200 at a.b@c.org (Mary-Ann)"
    words = [text[start:end] for start, end in words_in(text)]
    assert words == [
        *("Mr", ".", "O'Brien", "'s", "AT&T", "bill", ",", "1,200", "at", "a.b@c.org", "(", "Mary-Ann", ")"),
    ]


def test_the_outermost_span_is_tagged_and_no_article() -> None:
    sentence = Sentence("Al's bank: the Bank of Ulm, Ulm", [(0, 2, "PER"), (15, 26, "ORG"), (28, 31, "LOC")])
    assert in_tags(sentence) == (
        "Al 's bank : the Bank of Ulm , Ulm",
        ("B-PER", "O", "O", "O", "O", "B-ORG", "I-ORG", "I-ORG", "O", "B-LOC"),
    )
    assert not any(expanded("LOC", Draws(seed)).startswith("the ") for seed in range(200))


def test_every_rule_is_there_and_is_used() -> None:
    named = {name for ways in rules().values() for way in ways for name in re.findall(r"\{(\w+)\}", way)}
    assert named | {"sentence"} == set(rules())
    assert all(way for ways in rules().values() for way in ways)
    assert set(MARKED) <= set(rules())
    assert set(KINDS) == set(MARKED.values())


def test_made_spans_are_whole_words_and_every_kind_is_among_them() -> None:
    kinds: set[str] = set()
    for seed in range(500):
        sentence = made(Draws(seed))
        words = words_in(sentence.text)
        starts, ends = {start for start, _ in words}, {end for _, end in words}
        for start, end, kind in sentence.spans:
            assert start in starts, sentence
            assert end in ends, sentence
            kinds.add(kind)
        _, tags = in_tags(sentence)
        assert len(spans_of(tags)) == len(sentence.spans)
        assert "{" not in sentence.text
    assert kinds == set(KINDS)


def test_rows_come_first_and_what_is_new_is_told() -> None:
    after, ledger, facts = run(NameTemplates(rows=60, lent=0.5, replaced=1.0), ROWS)
    assert after[:3] == ROWS
    new = after[3:]
    assert [entry.id for entry in ledger.entries] == [one.id for one in new]
    assert {entry.action for entry in ledger.entries} == {"added"}
    assert all(one.origin.synthetic for one in new)
    assert len({one.id for one in after}) == len(after)
    replaced = [one for one in new if one.origin.parents and one.id.startswith("r:")]
    assert [one.origin.parents for one in replaced] == [("r:1",), ("r:2",)]
    assert facts == {"tagged": 3, "mentions": {"PER": 3, "ORG": 1, "LOC": 1}, "made": 60, "replaced": 2}
    for one in new:
        tokens = str(one.parts["tokens"]).split(" ")
        assert len(tokens) == len(one.target)
        assert all(follows(*pair, "bio") for pair in zip(("O", *one.target), one.target, strict=False))


def test_other_names_stand_in_the_places_of_the_old() -> None:
    after, _, _ = run(NameTemplates(rows=0, replaced=1.0), ROWS)
    (other,) = [one for one in after if one.origin.parents == ("r:1",)]
    spans = spans_of(other.target)
    tokens = str(other.parts["tokens"]).split(" ")
    assert [kind for kind, _, _ in spans] == ["PER", "PER", "LOC"]
    outside = [token for token, tag in zip(tokens, other.target, strict=True) if tag == "O"]
    assert outside == ["met", "in", "."]
    assert "Ulm" not in tokens
    # A row that was itself made is not made over.
    assert not [one for one in run(NameTemplates(rows=0, replaced=1.0), [other])[0] if one is not other]


def test_who_lends_a_name_is_a_parent() -> None:
    names = {"Ada Lovelace": "r:1", "Bob": "r:1", "Ulm": "r:1", "Acme": "r:2", "Eve": "r:2"}
    after, _, _ = run(NameTemplates(rows=80, lent=1.0, replaced=0), ROWS)
    for one in after[3:]:
        tokens = str(one.parts["tokens"]).split(" ")
        found = {" ".join(tokens[begin:end]) for _, begin, end in spans_of(one.target)}
        assert set(one.origin.parents) == {names[name] for name in found if name in names}
    assert any(one.origin.parents for one in after[3:])
    alone, _, _ = run(NameTemplates(rows=80, lent=0, replaced=0), ROWS)
    assert not any(one.origin.parents for one in alone[3:])


def test_the_same_seed_gives_the_same_sentences_whatever_their_number() -> None:
    few, _, _ = run(NameTemplates(rows=5, replaced=0), ROWS)
    more, _, _ = run(NameTemplates(rows=20, replaced=0), ROWS)
    assert more[: len(few)] == few
    assert run(NameTemplates(rows=5, replaced=0), ROWS, seed=4)[0] != few
    # Once more over its own rows: new ids.
    again, _, _ = run(NameTemplates(rows=5, replaced=0), few, seed=4)
    assert len({one.id for one in again}) == len(again) == len(few) + 5


def test_what_stands_in_another_split_is_not_made() -> None:
    first, *_ = [one for one in run(NameTemplates(rows=9, replaced=0), ROWS)[0] if one not in ROWS]
    context = StepContext("train", 3, Ledger().page("train", "name_templates"), others={"test": [first]})
    after = list(NameTemplates(rows=9, replaced=0).run(ROWS, context))
    assert len(after) == len(ROWS) + 8
    assert first.text() not in {one.text() for one in after}


def test_kinds_of_other_names_are_refused_before_anything_is_learned_of_both() -> None:
    with pytest.raises(DataError, match="location, person") as caught:
        run(NameTemplates(rows=1), [row("Ada in Ulm", "B-person O B-location")])
    assert "kinds" in str(caught.value.problems[0].remedy)
    with pytest.raises(DataError, match="NN, VB"):  # parts of speech: made rows would teach other tags
        run(NameTemplates(rows=1), [row("Ada came", "NN VB")])
    text = Example("t:1", {"text": "Ada"}, Origin("t", 1), "a class")
    assert run(NameTemplates(rows=5), [text])[0] == [text]
