"""clean: boilerplate and repeated lines go from documents; code, JSON and tables come through as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.example import Example, Origin, Turn
from luthier.data.ledger import Entry, Ledger
from luthier.data.text.lines import boilerplate, without_boilerplate, without_repeats

BODY = "The mill stands by the river.\nIt has ground corn since 1820."


def run(example: Example, **options: Any) -> tuple[Example, list[Entry]]:
    ledger = Ledger()
    (cleaned,) = build("steps", {"clean": options}).run(
        [example], StepContext("train", 1, ledger.page("train", "clean"))
    )
    return cleaned, ledger.entries


def cleaned(content: str, **options: Any) -> str:
    return str(run(Example("r", {"text": content}, Origin("f", 1)), **options)[0].parts["text"])


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("We use cookies to ensure that you get the best experience on our website.", "cookie notice"),
        ("This site uses cookies. By continuing to browse you agree to our use of cookies.", "cookie notice"),
        ("Wir verwenden Cookies. Mehr erfahren Sie in der Erklärung zum Datenschutz.", "cookie notice"),
        ("Accept all cookies", "cookie notice"),
        ("Cookie settings", "cookie notice"),
        ("Grandma bakes cookies on our site in the woods.", None),
        ("We use cookies to reward the dog.", None),
        ("Share on Facebook", "share bar"),
        ("Share this:", "share bar"),
        ("Facebook Twitter Pinterest WhatsApp", "share bar"),
        ("Tweet", None),
        ("Share the bread with your brother.", None),
        ("Facebook bought Instagram in 2012.", None),
        ("Follow us on Instagram", "share bar"),
        ("Home | About Us | Contact", "navigation"),
        ("Home » Blog » Ten ways to roast coffee", "navigation"),
        ("red | green | blue", None),
        ("Home is where the heart is.", None),
        ("Skip to main content", "navigation"),
        ("Read more »", "navigation"),
        ("Read more books this year.", None),
        ("Leave a Reply", "navigation"),
        ("12 Comments", "navigation"),
        ("You must be logged in to post a comment.", "navigation"),
        ("© 2018 Allergan. All rights reserved.", "copyright"),
        ("Copyright © 2007-2016 Acciente LLC. All rights reserved. All trademarks are theirs.", "copyright"),
        ("Coosa Creek, LLC. All rights reserved; 2010.", "copyright"),
        ("The Copyright Act of 1976 changed the law for authors.", None),
        ("", None),
        ("x" * 500 + " we use cookies on this site, accept", None),
    ],
)
def test_lines_that_are_boilerplate(line: str, kind: str | None) -> None:
    assert boilerplate(line) == kind


def test_boilerplate_goes_from_documents_with_its_kinds_in_the_ledger() -> None:
    page = "Home | Blog | Contact\n\n" + BODY + "\n\nShare on Facebook\n© 2018 Mill Ltd. All rights reserved."
    row, entries = run(Example("r", {"text": page}, Origin("f", 1)))
    assert row.parts["text"] == BODY
    assert [entry.reason for entry in entries] == ["boilerplate: navigation, share bar, copyright"]
    assert run(Example("r", {"text": "<b>A</b>\nRead more"}, Origin("f", 1)))[1][0].kind == "HTML, boilerplate"
    assert cleaned(page, boilerplate=False) == page


def test_boilerplate_is_never_all_of_a_text_nor_taken_from_conversations() -> None:
    for text in ("Read more", "Share on Facebook\nRead more"):
        assert cleaned(text) == text
    asked = (Turn("user", "Write a page's footer."), Turn("assistant", "Contact us\nShare on Facebook\n\n© 2020 Mill"))
    row = Example("r", {"messages": asked}, Origin("f", 1))
    assert run(row) == (row, [])


def test_repeated_neighbors_go_and_refrains_stay() -> None:
    line = "The wheel turns round and round"
    assert cleaned(f"{line}\n{line}\n\n{line.upper()}\nand stops", repeats=4) == f"{line}\n\nand stops"
    refrain = f"{line}\nall day\n{line}"
    assert cleaned(refrain, repeats=4) == refrain
    assert cleaned("ha ha\nha ha", repeats=4) == "ha ha\nha ha"
    assert cleaned(f"{line}\n{line}") == f"{line}\n{line}"  # songs say it twice: only where it is asked for
    assert cleaned("ha ha\nha ha", repeats=2) == "ha ha"


TABLE = "| name | note |\n|---|---|\n| a | one<br>two &amp; three |\n| a | one<br>two &amp; three |"
DATA = json.dumps({"k": "<b>bold</b> &quot;x&quot;", "n": [1, {"k": "a<br/>b"}]})


@pytest.mark.parametrize(
    "content",
    [
        "```\n<b>x</b> &amp;\nsame line of code here\nsame line of code here\nRead more\n```\nThe end.",
        TABLE,
        "Here it is:\n" + DATA + "\nand that is all.",
        DATA,
        json.dumps([["<p>x</p>", "&lt;"]], indent=2),
        "name\tage\tnote\nAda\t36\t\nBob\t\t\nEve\t29\tnew",
        "name\tage\nAda\t\nEve\t1\t",
        "def f(x):\n    return x\n\nprint(f(1))\nshow more\nshow more",
    ],
    ids=["fenced code", "table", "JSON in text", "JSON", "JSON over lines", "tabs", "tabs at the end", "code"],
)
def test_structure_comes_through(content: str) -> None:
    assert cleaned(content, repeats=2) == content


def test_prose_around_structure_is_cleaned() -> None:
    assert cleaned(f"<p>See</p>{DATA}<p>end &amp; done</p>") == f"See\n{DATA}end & done"
    assert cleaned(TABLE + "\n\n<b>Bold</b> &amp; more") == TABLE + "\n\nBold & more"


PIECES = ["<b>", "</b>", "<br>", "&amp;", "&lt;", "a", "é", '"', "'", "\\", "|", "\t", "\n"]
values = st.recursive(
    st.none() | st.integers() | st.lists(st.sampled_from(PIECES), max_size=5).map("".join),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abkp<", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text("abk", min_size=1, max_size=3), values, min_size=1, max_size=4), st.booleans())
def test_any_json_survives(value: dict[str, Any], indented: bool) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2 if indented else None)
    assert json.loads(cleaned(text)) == value
    assert json.loads(cleaned(f"<b>Answer</b>:\n{text}").partition("\n")[2]) == value


lines = st.sampled_from(
    [
        "Read more",
        "The wheel turns round and round",
        "",
        "| a | b |",
        "```",
        "Share on Facebook",
        "x",
        " y",
        "a\tb",
        "a\t",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(lines, max_size=9))
def test_lines_that_stay_are_those_that_were_there_in_order(given_lines: list[str]) -> None:
    text = "\n".join(given_lines)
    for shorter in (without_boilerplate(text)[0], without_repeats(text, 4)):
        rest = iter(given_lines)
        assert shorter == text or all(line in rest for line in shorter.split("\n"))
    if text.strip():
        once = cleaned(text, repeats=2)
        assert cleaned(once, repeats=2) == once


@pytest.mark.parametrize(
    ("tokens", "after"),
    [
        ("1\u00a01/2 cafe\u0301 x", "1\u00a01/2 caf\u00e9 x"),  # a space within a token parts none
        ("a \u200b b", "a \u200b b"),  # one of nothing but damage stays: its tag has no other word
        ("\u00b4 is \ufeffit", "\u0301 is it"),
        ("AT&amp;T <b> \u200b", "AT&T <b> \u200b"),
    ],
)
def test_tagged_tokens_stay_as_many_as_their_tags(tokens: str, after: str) -> None:
    tags = ("O",) * len(tokens.split(" "))
    for form in ("NFC", "NFKC"):
        row, _ = run(Example("t:1", {"tokens": tokens}, Origin("t", 1), tags), unicode=form)
        assert len(str(row.parts["tokens"]).split(" ")) == len(tags)
    assert str(row.parts["tokens"]) == after
