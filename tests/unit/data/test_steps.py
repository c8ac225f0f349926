"""clean and deduplicate: what they repair, what they leave alone, what they keep (correctness 26)."""

from __future__ import annotations

from typing import Any

import pytest
from elapsed import takes_less_than
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.example import Example, Origin, Turn
from luthier.data.ledger import Entry, Ledger


def text(content: str, row: int = 1, target: Any = None) -> Example:
    return Example(f"r{row}", {"text": content}, Origin("f", row), target)


def chat(prompt: str, answer: str, row: int = 1, target: Any = None) -> Example:
    return Example(f"r{row}", {"messages": (Turn("user", prompt), Turn("assistant", answer))}, Origin("f", row), target)


def run(
    step: Any, examples: list[Example], split: str = "train", **others: list[Example]
) -> tuple[list[Example], list[Entry]]:
    ledger = Ledger()
    component = build("steps", step)
    context = StepContext(split, 1, ledger.page(split, component.component_name()), others)
    return list(component.run(examples, context)), ledger.entries


def cleaned(content: str, **options: Any) -> str:
    (example,), _ = run({"clean": options}, [text(content)])
    return str(example.parts["text"])


# ---- clean -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("cafÃ© crÃ¨me", "café crème", "mojibake"),
        ("itâ€™s â€œgoodâ€\x9d", "it’s “good”", "mojibake"),
        ("itâ\x80\x99s", "it’s", "mojibake"),
        ("20Â °C", None, None),
        ("20Â°C", "20°C", "mojibake"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет", "mojibake"),
        ("ÃƒÂ©", "é", "mojibake"),
        ("CAFÉ™ is ours", None, None),
        ("â€œhiâ€ said the naïve deer", "“hi” said the naïve deer", "mojibake"),
        ("one cafÃ©, one café", "one café, one café", "mojibake"),
        ("sound “café”\nand donâ€™t", "sound “café”\nand don’t", "mojibake"),
        ("“MAÇÔ e voilà\xa0« oui »", None, None),
        ("naïve café, Ünal, Привет, 你好", None, None),
        ("a&amp;b &lt;3 &#39;x&#39; &nbsp;y", "a&b <3 'x'  y", "HTML"),
        ("<p>One.</p><p>Two <b>three</b>.</p>", "One.\nTwo three.", "HTML, whitespace"),
        ("one<br/>two", "one\ntwo", "HTML"),
        ("a < b and c > d & e", None, None),
        ("if a<b and b>c", None, None),
        ("Use `&amp;` here:\n```\n<br>  x\n```", None, None),
        ("What does the <b> tag do? <b>x</b>", None, None),
        ("Make an HTML page: <p>hi</p>", None, None),
        ("function f() {\n  return '<p>x</p>';\n}", None, None),
        ("a\x00b\x07c\x1b[31md\x1b[0m", "abcd", "control characters"),
        ("a\r\nb\rc", "a\nb\nc", "control characters"),
        ("tab\tstays\n", "tab\tstays", "whitespace"),
        ("\ufeffzero\u200bwidth", "zerowidth", "zero-width characters"),
        ("می‌خواهم 👩‍🔧", None, None),
        ("e\u0301", "é", "NFC"),
        ("ﬁ ²", None, None),
        ("one  \n\n\n\n\n\ntwo\n\n", "one\n\n\ntwo", "whitespace"),
        ("\n\n    indented\n        more\n\tand tab", "    indented\n        more\n\tand tab", "whitespace"),
        ("def f(x):\n    if x:\n        return 1\n\n\nprint(f(2))", None, None),
    ],
)
def test_clean(before: str, after: str | None, kind: str | None) -> None:
    examples, entries = run("clean", [text(before)])
    assert examples[0].parts["text"] == (before if after is None else after)
    assert [entry.reason for entry in entries] == ([] if kind is None else [kind])
    if kind is None:
        assert examples[0].origin.steps == ()
    else:
        assert (entries[0].action, entries[0].before, entries[0].after) == ("changed", before, after)
        assert examples[0].origin.steps == ("clean",)


def test_clean_options_switch_each_repair_off() -> None:
    damaged = "cafÃ©\x07 &amp; e\u0301\u200bx  "
    options = {"mojibake": False, "markup": False, "control": False, "zero_width": False, "whitespace": False}
    assert cleaned(damaged, **options, unicode="off") == damaged
    assert cleaned("ﬁ ²", unicode="NFKC") == "fi 2"
    assert cleaned("a\n\n\n\nb", blank_lines=1) == "a\n\nb"
    assert cleaned("a\t\n b\t \nc\t") == "a\n b\nc"


def test_clean_looks_at_the_whole_row_for_code() -> None:
    (example,), entries = run("clean", [chat("Write HTML for a bold word.", "<b>word</b>")])
    assert (example.parts["messages"][1].content, entries) == ("<b>word</b>", [])


def test_clean_drops_what_ends_empty() -> None:
    rows = [
        text("\u200b \x00", 1),
        chat("hi", "<br>", 2),
        chat("\ufeff", "hello", 3),
        chat("hi", "yes ", 4, ("yes ", " ")),
    ]
    examples, entries = run("clean", rows)
    assert [(e.id, e.parts["messages"][1].content, e.target) for e in examples] == [("r4", "yes", ("yes",))]
    assert [(e.id, e.action, e.reason) for e in entries] == [
        ("r1", "dropped", "empty text"),
        ("r2", "dropped", "empty answer"),
        ("r3", "dropped", "empty turn"),
        ("r4", "changed", "whitespace"),
    ]
    assert [entry.dropped() for entry in entries[:3]] == rows[:3]


def test_clean_leaves_tools_calls_and_classes_alone() -> None:
    call = Turn("assistant", "", None, {"tool_calls": [{"function": {"name": "f", "arguments": "a&amp;b "}}]})
    row = Example("r", {"messages": (Turn("user", "hi"), call), "tools": '[{"d": "a &amp; b "}]'}, Origin("f", 1))
    assert run("clean", [row])[0] == [row]
    labeled = text("x", target="spaced  ")
    assert run("clean", [labeled])[0] == [labeled]


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab <>/&;#\n\r\t\x00\x1b[mâÃ©€™Âïp\u200b\u200d\ufeffe\u0301`"), max_size=40))
def test_clean_twice_is_clean_once(content: str) -> None:
    once, _ = run("clean", [text(content)])
    assert run("clean", once) == (once, [])


WORDS_OF_SCRIPTS = [
    "café",
    "naïve",
    "“quoted”",
    "it’s",
    "Straße",
    "über",
    "Привет",
    "мир",
    "你好",
    "世界",
    "plain",
    "日本語",
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(WORDS_OF_SCRIPTS), min_size=3, max_size=8), st.sampled_from(["latin-1", "cp1252"]))
def test_sound_text_stays_and_its_mojibake_is_undone(words: list[str], read_as: str) -> None:
    content = " ".join(["“He said”", *words])
    assert cleaned(content) == content
    broken = content.encode().decode(read_as, errors="ignore" if read_as == "latin-1" else "replace")
    if "\ufffd" not in broken:
        assert cleaned(broken) == content


@pytest.mark.parametrize(
    ("content", "form", "clean"),
    [
        ("\uff06ap;", "NFKC", "≈"),  # a wide & becomes one that an entity begins with
        ("&amp;" + "amp;" * 9 + "lt;", "NFC", "<"),
        ("<b>" * 50 + "x" + "</b>" * 50, "NFC", "x"),
        ("ht\u200bml &amp;", "NFC", "html &amp;"),  # speaks of HTML once it is cleaned: its entity is its matter
        ("html\x00x &amp;", "NFC", "htmlx &"),
    ],
)
def test_clean_twice_is_clean_once_where_one_change_opens_another(content: str, form: str, clean: str) -> None:
    once, _ = run({"clean": {"unicode": form}}, [text(content)])
    assert once[0].parts["text"] == clean
    assert run({"clean": {"unicode": form}}, once) == (once, [])


@pytest.mark.parametrize(
    "content",
    [
        "<" + "a" * 200_000,
        "<b>" * 100_000,
        "<p>" * 50_000 + "</p>" * 50_000,
        " " * 300_000 + "x",
        "&" + "amp;" * 100_000,
    ],
    ids=["tag without end", "open tags", "nested tags", "spaces", "escaped escapes"],
)
def test_clean_takes_time_in_proportion_to_the_text(content: str) -> None:
    # each took minutes where a pattern was tried at every character
    assert takes_less_than(3, lambda: run("clean", [text(content)]))


# ---- deduplicate -----------------------------------------------------------------------------------------------------

TALE = "the old man took his violin to the shop on the hill because a peg had cracked in the dry winter air"
WORDS = TALE.split()


def varied(*places: int) -> str:
    return " ".join(f"other{place}" if place in places else word for place, word in enumerate(WORDS))


def dropped(entries: list[Entry]) -> list[tuple[str, str, str | None]]:
    return [(entry.id, entry.kind, entry.of) for entry in entries if entry.action == "dropped"]


def noted(entries: list[Entry]) -> list[tuple[str, str, str | None]]:
    return [(entry.id, entry.kind, entry.of) for entry in entries if entry.action == "noted"]


def test_exact_duplicates_keep_the_first() -> None:
    rows = [text("One  two", 1), text("three", 2), text("one\nTWO", 3), text("three", 4), text("threë", 5)]
    examples, entries = run("deduplicate", rows)
    assert [e.id for e in examples] == ["r1", "r2", "r5"]
    assert dropped(entries) == [("r3", "exact duplicate", "r1"), ("r4", "exact duplicate", "r2")]
    assert [entry.dropped() for entry in entries] == [rows[2], rows[3]]


def test_label_conflicts_are_noted_and_kept() -> None:
    rows = [text("same", 1, "a"), text("same", 2, "b"), text("same", 3, "a")]
    examples, entries = run("deduplicate", rows)
    assert [e.id for e in examples] == ["r1", "r2"]
    assert dropped(entries) == [("r3", "exact duplicate", "r1")]
    assert noted(entries) == [("r2", "label conflict", "r1")]


def test_near_duplicates_are_chained_and_the_first_stays() -> None:
    rows = [text(varied(), 1), text(varied(0, 20), 2), text(varied(20), 3), text("nothing like it at all, really", 4)]
    step = {"deduplicate": {"threshold": 0.8}}
    examples, entries = run(step, rows)
    # Of 20 pieces of three words, 1 and 2 share 17 of 23 (0.74), 1 and 3 18 of 22 (0.82), 2 and 3 19 of 21 (0.90):
    # the third joins the first two, which are not near duplicates themselves.
    assert [e.id for e in examples] == ["r1", "r4"]
    assert dropped(entries) == [("r2", "near duplicate", "r1"), ("r3", "near duplicate", "r1")]
    assert [entry.reason for entry in entries] == ["near duplicate: 0.90 like r3", "near duplicate: 0.90 like r2"]
    assert run({"deduplicate": {"near": False}}, rows)[0] == rows
    assert [e.id for e in run({"deduplicate": {"threshold": 1.0}}, rows)[0]] == ["r1", "r2", "r3", "r4"]


def test_near_rows_that_teach_different_things_stay() -> None:
    passage = " ".join(WORDS * 4)
    questions = [
        chat(f"{passage}\n\nWho came?", "The old man.", 1),
        chat(f"{passage}\n\nWhy?", "A peg had cracked.", 2),
    ]
    assert len(run("deduplicate", questions)[0]) == 2
    tickets = [chat("cracked peg", f"{passage}\n[ticket: peg; quote={price} EUR]", price) for price in (45, 60)]
    assert len(run("deduplicate", tickets)[0]) == 2
    labels = [text(varied(), 1, "repair"), text(varied(20), 2, "sale")]
    assert len(run("deduplicate", labels)[0]) == 2
    wordings = [chat(f"{passage} please", varied() + "\n[ticket]", 1), chat(passage, varied(0) + "\n[ticket]", 2)]
    assert len(run("deduplicate", wordings)[0]) == 1


def test_near_rows_that_ask_or_prefer_different_things_stay() -> None:
    passage = " ".join(f"word{number}" for number in range(200))

    def asked(question: str, row: int) -> Example:
        return Example(f"r{row}", {"question": question, "context": passage}, Origin("f", row), ("four",))

    def preferred(chosen: str, rejected: str, row: int) -> Example:
        said = {"prompt": "Which?", "chosen": chosen, "rejected": rejected}
        turns = {name: (Turn("user" if name == "prompt" else "assistant", text),) for name, text in said.items()}
        return Example(f"r{row}", turns, Origin("f", row))

    one, two = passage, passage.replace("word", "term")
    rows = [asked("How many came to the feast?", 1), asked("How many balls did Norman catch?", 2)]
    rows += [preferred(one, two, 3), preferred(two, one + " too", 4)]
    kept, entries = run({"deduplicate": {"threshold": 0.6}}, rows)
    assert (kept, entries) == (rows, [])
    again = asked("How many came to the feast?", 5), preferred(one + " more", two, 6)
    kept, entries = run({"deduplicate": {"threshold": 0.6}}, [*rows, *again])
    assert kept == rows
    assert [(entry.id, entry.of) for entry in entries] == [("r5", "r1"), ("r6", "r3")]


def test_calls_are_part_of_the_row() -> None:
    def row(number: int, sides: int) -> Example:
        call = {"function": {"name": "roll", "arguments": {"sides": sides}}}
        turns = (Turn("user", "roll a die"), Turn("assistant", "", None, {"tool_calls": [call]}))
        return Example(f"r{number}", {"messages": turns}, Origin("f", number))

    assert [e.id for e in run("deduplicate", [row(1, 6), row(2, 20), row(3, 6)])[0]] == ["r1", "r2"]


def test_copies_across_splits_are_noted_once_and_from_train() -> None:
    train = [text("same words", 1), text(varied(), 2), text("own", 3)]
    test = [text("Same words", 11), text(varied(20), 12)]
    examples, entries = run("deduplicate", train, "train", test=test)
    assert examples == train
    assert noted(entries) == [("r1", "exact copy in test", "r11"), ("r2", "near copy in test", "r12")]
    assert run("deduplicate", test, "test", train=train) == (test, [])


def test_copies_across_splits_leave_train_on_request() -> None:
    step = {"deduplicate": {"across": "drop_from_train"}}
    train, test = (
        [text("same", 1, "a"), text(varied(), 2), text("own", 3)],
        [text("same", 11, "b"), text(varied(20), 12)],
    )
    examples, entries = run(step, train, "train", test=test)
    assert [e.id for e in examples] == ["r3"]
    assert dropped(entries) == [
        ("r1", "exact copy in test with another target", "r11"),
        ("r2", "near copy in test", "r12"),
    ]
    assert [e.id for e in run(step, test[:1], "validation", test=test)[0]] == ["r11"]
