"""quality and consistency: each rule by a row that breaks it and one that does not; what is told of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.errors import RecipeError
from luthier.core.example import Example, Origin, Turn
from luthier.data.ledger import Entry, Ledger
from luthier.data.text.answers import INSTRUCTIONS
from luthier.data.text.rules import DOCUMENTS

GOOD = (
    "The old mill stands by the river, and it has ground corn for the village since 1820. Farmers bring their grain"
    " with horse and cart. The miller weighs every sack, pours it into the hopper and waits for the flour to fall.\n"
    "His daughter keeps the books. She writes down who came, what was brought, and how much of it the mill may keep"
    " for its work. In dry summers the wheel stands still, so that nobody can say when bread will be baked again."
)


def text(content: str, row: int = 1, target: Any = None, **groups: str) -> Example:
    return Example(f"r{row}", {"text": content}, Origin("f", row), target, groups)


def chat(prompt: str, answer: str, row: int = 1) -> Example:
    return Example(f"r{row}", {"messages": (Turn("user", prompt), Turn("assistant", answer))}, Origin("f", row))


def run(
    rows: list[Example], step: str = "quality", **options: Any
) -> tuple[list[Example], list[Entry], dict[str, Any]]:
    ledger = Ledger()
    context = StepContext("train", 1, ledger.page("train", step))
    kept = list(build("steps", {step: options}).run(rows, context))
    return kept, ledger.entries, context.facts


def broken(row: Example, **options: Any) -> set[str]:
    return set(run([row], **options)[2]["rules"])


# ---- documents -------------------------------------------------------------------------------------------------------

WORDS = GOOD.replace("\n", " ").split()
LINES = [" ".join(WORDS[start : start + 7]) + "." for start in range(0, 84, 7)]
MIXED = " ".join(f"{word} of the wheel and corn" for word in WORDS[:12])

BREAKING = {
    "gopher_fewest_words": " ".join(WORDS[:47]) + ". One. Two.",
    "gopher_shortest_mean_word": GOOD + " a" * 200,
    "gopher_longest_mean_word": GOOD + " " + " ".join(f"unterschiedlichkeiten{n}und" for n in range(60)),
    "gopher_hashes": GOOD + " #" * 20,
    "gopher_ellipses": GOOD.replace(",", "...").replace(". ", "... "),
    "gopher_bullet_lines": "\n".join(f"- {line}" for line in LINES),
    "gopher_ellipsis_lines": "\n".join(line + ".." for line in LINES),
    "gopher_alphabetic_words": GOOD + " 11 22 33 44 55 66 77 88 99 00 12 13 14 15 16 17 18 19 20 21 23 24 25 26",
    "gopher_stop_words": "We saw old mills near rivers, where farmers grind corn. We saw old carts. Some wheels turn"
    " slowly; others stand still. Nobody knows when bread is baked. She writes names, dates, weights. His daughter"
    " keeps books, counts sacks, feeds horses, sweeps floors, mends carts. In dry summers all work stops. Everyone"
    " waits for rain.",
    "gopher_repeated_lines": GOOD + "\n" + "\n".join(["Ho!"] * 3),
    "gopher_repeated_paragraphs": GOOD + "\n\nHo!\n\nHo!\n\nHo!",
    "gopher_repeated_line_characters": GOOD + "\n" + GOOD.split("\n")[0],
    "gopher_repeated_paragraph_characters": GOOD + "\n\n" + GOOD,
    "gopher_top_2_grams": GOOD + " the mill" * 60,
    "gopher_top_3_grams": GOOD + " the mill wheel" * 40,
    "gopher_top_4_grams": GOOD + " the mill wheel turns" * 30,
    **{f"gopher_repeated_{n}_grams": f"{GOOD} {GOOD}" for n in range(5, 11)},
    "c4_sentences": " ".join(WORDS).replace(".", ""),
    "c4_lorem_ipsum": GOOD + " Lorem ipsum dolor sit amet.",
    "refinedweb_empty_lines": GOOD + "\nREAD ALL ABOUT THE MILL\n3 likes\n12 34",
    "fineweb_ended_lines": "\n".join(line.strip(".,") for line in LINES) + "\n",
    "fineweb_short_lines": "\n".join(" ".join(WORDS[start : start + 4]) for start in range(0, 84, 4)),
    "fineweb_repeated_line_characters": GOOD + "\n" + "The wheel turns round and round.\n" * 4,
    "broken_characters": GOOD + " caf\ufffd",
}


def test_a_good_document_breaks_no_rule() -> None:
    kept, entries, facts = run([text(GOOD)])
    assert (len(kept), entries, facts) == (1, [], {"judged": 1, "failed": 0, "rules": {}})


@pytest.mark.parametrize("rule", [rule.name for rule in DOCUMENTS if rule.name in BREAKING])
def test_each_rule_of_documents_is_broken_by_its_row(rule: str) -> None:
    row = text(BREAKING[rule])
    assert rule in broken(row)
    assert rule not in broken(row, rules={rule: None})


def test_every_rule_of_documents_has_its_row() -> None:
    rare = {"gopher_most_words", "c4_braces"}
    assert {rule.name for rule in DOCUMENTS} == set(BREAKING) | rare
    assert broken(text(GOOD), rules={"gopher_most_words": 80}) == {"gopher_most_words"}
    assert broken(text(GOOD + " {x}"), rules={"c4_braces": 0}) == {"c4_braces"}
    assert broken(text(GOOD + " {x}")) == set()


def test_a_limit_holds_or_breaks_as_its_source_has_it() -> None:
    fifty = text(" ".join(["word"] * 50))
    assert "gopher_fewest_words" not in broken(fifty)  # at least 50
    halves = text("a line that ends.\na line that does not")
    assert "fineweb_ended_lines" in broken(halves, rules={"fineweb_ended_lines": 0.5})  # at or below it is dropped


def test_stop_words_are_asked_of_english_alone() -> None:
    german = (
        "Die alte Mühle steht am Fluss und mahlt seit zweihundert Jahren das Korn der Bauern. Sie kommen mit Wagen und "
        "Pferden. Der Müller wiegt jeden Sack, schüttet ihn in den Trichter und wartet auf das Mehl. Seine Tochter "
        "führt die Bücher. Sie schreibt auf, wer kam und was gebracht wurde. Im trockenen Sommer ruht das Rad."
    )
    assert broken(text(german)) == set()
    chinese = (
        "那座古老的磨坊矗立在河边。两百年来一直在磨玉米。农民们赶着马车把粮食运来。"
        "磨坊主称量每一袋粮食，倒进料斗，等待面粉落下。"
    )
    assert broken(text(chinese)) == set()


# ---- instructions ----------------------------------------------------------------------------------------------------

LONG_ANSWER = GOOD.replace("\n", " ")

BREAKING_ANSWERS = {
    "answer_fewest_words": ("Hi?", "  "),
    "prompt_fewest_words": (" ", "Hello there."),
    "answer_equals_prompt": ("What is a mill?", "what is a mill"),
    "refusal": ("Write a poem.", "I’m sorry, but I can't help with that."),
    "speaks_as_model": ("Which city is nicest?", "Well, as an AI language model, I have no taste, but Rome."),
    "filler": ("Name a river.", "[insert answer here]"),
    "cut_off": ("Tell me of mills.", LONG_ANSWER.rsplit(" ", 6)[0]),
    "repeats_itself": ("Tell me of mills.", f"{LONG_ANSWER} {LONG_ANSWER}"),
    "other_language": (
        "Please tell me about the old mill by the river and the people who work in it every day.",
        "Die alte Mühle steht am Fluss, und die Leute mahlen dort seit zweihundert Jahren jeden Tag das Korn.",
    ),
    "broken_characters": ("Say caf\ufffd.", "Coffee."),
}


@pytest.mark.parametrize("rule", list(BREAKING_ANSWERS))
def test_each_rule_of_instructions_is_broken_by_its_row(rule: str) -> None:
    row = chat(*BREAKING_ANSWERS[rule])
    assert broken(row) == {rule}
    assert broken(row, rules={rule: None}) == set()


def test_every_rule_of_instructions_has_its_row() -> None:
    assert {rule.name for rule in INSTRUCTIONS} == set(BREAKING_ANSWERS) | {"answer_most_words", "prompt_most_words"}
    assert broken(chat("a b", "c d e"), rules={"answer_most_words": 2}) == {"answer_most_words"}
    assert broken(chat("a b", "c d"), rules={"prompt_most_words": 1}) == {"prompt_most_words"}


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Is water wet?", "Yes"),
        ("Which number is next?", "42"),
        ("Repeat after me: good morning", "Good morning"),
        ("Correct the sentence: He go home.", "He goes home."),
        ("Write an e-mail to decline the invitation.", "I'm sorry, but I can't come on Friday."),
        ("Who are you?", "As an AI assistant, I help with mills."),
        ("Continue: sorry", "I'm sorry that the mill burned down."),
        ("Write a letter.", f"Dear miller,\n\n{LONG_ANSWER}\n\nYours sincerely,\nAda Lovelace"),
        ("Write a form letter.", "Dear [Name],\n\nthank you for the flour that you sent us last week. It was good."),
        ("List things.", "1. corn\n2. flour\n3. bread and"),
        ("Give me code.", "```\nprint(1)\n```"),
        ("Translate into German: the old mill stands by the river and has done so for two hundred years.",
         "Die alte Mühle steht am Fluss, und das tut sie schon seit zweihundert Jahren, sagt man."),
        ("Unfortunately?", "Unfortunately the mill burned down."),
        ("怎么样?", "很抱歉让您久等了。磨坊今天开门。"),
    ],
)  # fmt: skip
def test_good_answers_stay(prompt: str, answer: str) -> None:
    assert broken(chat(prompt, answer)) == set()


@pytest.mark.parametrize(
    ("answer", "cut"),
    [
        ("```python\nprint(1)", True),
        ("The mill stands by the river and", True),
        ("Flour, bread, corn, water, wheels,", True),
        ("It is the", False),  # too few words to tell
        ("This is a title without an end", False),
        (LONG_ANSWER, False),
        (LONG_ANSWER + "\n\n- one\n- two", False),
    ],
)
def test_answers_that_stop_in_the_middle(answer: str, cut: bool) -> None:
    assert ("cut_off" in broken(chat("Tell me.", answer))) == cut


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot assist with this request.",
        "As an AI language model, I don't have access to the weather.",
        "My apologies, but I am unable to see images.",
        "Es tut mir leid, aber das kann ich nicht beantworten.",
        "对不起，我无法回答您的问题。",
        "作为一个人工智能助手，我无法看到图片。",
    ],
)
def test_refusals_in_three_languages(answer: str) -> None:
    assert "refusal" in broken(chat("What do you see? 请看", answer))


# ---- the step --------------------------------------------------------------------------------------------------------


def test_the_ledger_has_value_and_limit_and_the_facts_count_alone_and_together() -> None:
    rows = [text(GOOD, 1), text("Too short.", 2), text(GOOD + " lorem ipsum", 3)]
    kept, entries, facts = run(rows)
    assert [row.id for row in kept] == ["r1"]
    assert [(entry.id, entry.action, entry.kind) for entry in entries] == [
        ("r2", "dropped", "gopher_fewest_words"),
        ("r3", "dropped", "c4_lorem_ipsum"),
    ]
    assert entries[0].reason.startswith("gopher_fewest_words: 2 (at least 50); c4_sentences: 1 (at least 3); ")
    assert (facts["judged"], facts["failed"]) == (3, 2)
    assert facts["rules"]["c4_lorem_ipsum"] == {"rows": 1, "alone": 1}
    assert facts["rules"]["gopher_fewest_words"] == {"rows": 1, "alone": 0}
    noted = run(rows, action="note")
    assert noted[0] == rows
    assert {entry.action for entry in noted[1]} == {"noted"}
    assert noted[2] == facts


def test_labeled_text_is_judged_only_where_a_profile_is_named() -> None:
    row = text("Lost my card", target="card_lost")
    assert run([row])[2]["judged"] == 0
    assert run([row], profile="instructions")[2]["judged"] == 0
    assert "gopher_fewest_words" in broken(row, profile="documents")


def test_calls_of_tools_are_no_empty_answers() -> None:
    call = Turn("assistant", "", None, {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]})
    row = Example("r", {"messages": (Turn("user", "Weather?"), call)}, Origin("f", 1))
    assert run([row])[0] == [row]


def test_a_wrong_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="no rule 'gopher_few_words'") as error:
        build("steps", {"quality": {"rules": {"gopher_few_words": 3}}})
    assert "gopher_fewest_words" in str(error.value)


def test_real_answers_are_mostly_good(data_file) -> None:
    """Of 999 answers that people have kept, a few per cent refuse or break off."""
    rows = json.loads(data_file("instructions/llama-factory-demos/alpaca_en_demo.json").read_text(encoding="utf-8"))
    examples = [
        chat(f"{row['instruction']}\n\n{row['input']}".strip(), row["output"], number)
        for number, row in enumerate(rows)
    ]
    _, entries, facts = run(examples)
    assert 15 <= facts["failed"] <= 45
    assert facts["failed"] == len(entries)


messy = st.text(st.sampled_from("ab .\n#-…\ufffd河<>{}`*1"), max_size=60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), messy, messy), max_size=4))
def test_any_row_stays_or_is_in_the_ledger_with_a_number(contents: list[tuple[bool, str, str]]) -> None:
    rows = [chat(a, b, n) if dialog else text(a, n) for n, (dialog, a, b) in enumerate(contents)]
    kept, entries, facts = run(rows)
    assert [row.id for row in kept] + [entry.id for entry in entries] != [] or not rows
    assert len(kept) + len(entries) == len(rows)
    assert facts["failed"] == len(entries)
    assert all(char in entry.reason for entry in entries for char in (": ", "(at "))


# ---- consistency -----------------------------------------------------------------------------------------------------


def test_contradictions_are_noted_with_the_row_that_says_otherwise() -> None:
    rows = [
        chat("Capital of France?", "Paris", 1),
        chat("capital of  france", "Lyon.", 2),
        chat("Capital of France?", "paris!", 3),
        chat("Capital of Spain?", "Madrid", 4),
        text("hot", 5, "temperature"),
        text("Hot!", 6, "weather"),
    ]
    kept, entries, facts = run(rows, "consistency", usual=1.0)
    assert kept == rows
    assert [(e.id, e.reason, e.of) for e in entries] == [
        ("r1", "same prompt, different answers", "r2"),
        ("r2", "same prompt, different answers", "r1"),
        ("r3", "same prompt, different answers", "r2"),
        ("r5", "same text, different targets", "r6"),
        ("r6", "same text, different targets", "r5"),
    ]
    assert facts["contradictory"] == {"same prompt, different answers": 3, "same text, different targets": 2}
    assert [row.id for row in run(rows, "consistency", contradictions="drop", usual=1.0)[0]] == ["r4"]


def test_contradictions_under_one_prompt_take_time_linear_in_its_rows() -> None:
    class Answer(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Answer.compared += 1
            return str.__eq__(self, other)

        def __ne__(self, other: object) -> bool:
            Answer.compared += 1
            return str.__ne__(self, other)

        __hash__ = str.__hash__

    count = 300
    rows = [Example(f"r{n}", {"text": "the same"}, Origin("f", n + 1), Answer("yes")) for n in range(count)]
    rows.append(Example("other", {"text": "the same"}, Origin("f", count + 1), Answer("no")))
    _, entries, _ = run(rows, "consistency", usual=1.0)
    assert [entry.of for entry in entries] == ["other"] * count + ["r0"]
    assert Answer.compared < 20 * count


def test_what_was_said_before_belongs_to_the_prompt() -> None:
    def talk(row: int, first: str, answer: str) -> Example:
        turns = (Turn("system", first), Turn("user", "Go on."), Turn("assistant", answer))
        return Example(f"r{row}", {"messages": turns}, Origin("f", row))

    assert run([talk(1, "Be kind.", "a"), talk(2, "Be short.", "b")], "consistency")[1] == []
    assert len(run([talk(1, "Be kind.", "a"), talk(2, "Be kind!", "b")], "consistency")[1]) == 2


def test_signs_are_all_there_is_to_some_prompts() -> None:
    assert run([chat("+", "plus", 1), chat("-", "minus", 2)], "consistency")[1] == []


def test_missing_values_are_noted_where_most_rows_have_one() -> None:
    rows = [
        text("a", 1, "x", source="web"),
        text("b", 2, "y", source="n/a"),
        text("c", 3, None, source="web"),
        text("d", 4, "null"),
        chat("e", "N/A", 5),
    ]
    _, entries, facts = run(rows, "consistency", usual=0.4)
    assert [(e.id, e.reason) for e in entries] == [
        ("r2", "missing value: group source"),
        ("r3", "missing value: target"),
        ("r4", "missing value: group source"),
        ("r4", "missing value: target"),
        ("r5", "missing value: answer"),
        ("r5", "missing value: group source"),
        ("r5", "missing value: part text"),
        ("r5", "missing value: target"),
    ]
    assert facts["missing"] == {"group source": 3, "target": 3, "answer": 1, "part text": 1}
    assert run([text("a"), text("b")], "consistency")[1] == []
