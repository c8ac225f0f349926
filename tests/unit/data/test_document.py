"""Measures of documents, each worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.text.document import Document

TEN = "aa bb cc dd ee ff gg hh ii jj"


@pytest.mark.parametrize(
    ("text", "measure", "arguments", "value"),
    [
        ("one two  three\nfour", "mean_word_length", (), 15 / 4),
        ("", "mean_word_length", (), 0),
        ("a # b # c", "symbols_per_word", (("#",),), 2 / 5),
        ("wait... what… no", "symbols_per_word", (("...", "…"),), 2 / 3),
        ("a1 22 b 3.5", "share_of_alphabetic_words", (), 0.5),
        ("- a\n* b\n• c\nd\n-e", "share_of_bullet_lines", (), 3 / 5),
        ("a...\nb…\nc.\n\nd", "share_of_ellipsis_lines", (), 0.5),
        ("It ends.\nIt does not\n“So he said.”\n好。", "share_of_ended_lines", (), 0.75),
        ("short\n" + "x" * 30, "share_of_short_lines", (30,), 0.5),
        ("One. Two! Three? 3.5 is no end", "sentences", (), 3),
        ("好。不好！", "sentences", (), 2),
        ("The dog, and THE cat.", "distinct", (frozenset({"the", "and", "of"}),), 2),
        ("SHOUTING IT OUT\n12 34\n3 likes\nword\nThis is a line.", "share_of_words_in_empty_lines", (), 8 / 12),
        ("a b\na b\nc d\n", "repeated_lines", (), 1 / 3),
        ("a b\na b\nlonger line\n", "characters_in_repeated_lines", (), 3 / 17),
        ("a\n\nb\n\na", "repeated_paragraphs", (), 1 / 3),
        ("aaaa\n\nb\n\naaaa", "characters_in_repeated_paragraphs", (), 4 / 9),
        ("a b c a b d", "characters_in_top", (2,), 4 / 6),
        ("a b c d e f", "characters_in_top", (2,), 0),
        ("aa b aa b cc dd cc dd", "characters_in_top", (2,), 8 / 14),  # as often, but longer
        (f"{TEN} {TEN}", "characters_in_repeated", (10,), 0.5),
        (f"{TEN} {TEN} {TEN}", "characters_in_repeated", (5,), 2 / 3),
        (f"{TEN} kk", "characters_in_repeated", (5,), 0),
        ("x x x x x x", "characters_in_repeated", (5,), 5 / 6),
        ("one two", "characters_in_repeated", (5,), 0),
        ("", "characters_in_repeated", (5,), 0),
    ],
)
def test_measures(text: str, measure: str, arguments: tuple, value: float) -> None:
    assert getattr(Document(text), measure)(*arguments) == pytest.approx(value)


def test_letters_of_unspaced_scripts_are_words() -> None:
    assert Document("磨坊 on 河边。").words == ["磨", "坊", "on", "河", "边", "。"]
    assert not Document("磨坊在河边").is_spaced
    assert Document("plain words, 河").is_spaced


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "\n", "\n\n", "A.", "河", "..."]), max_size=40))
def test_shares_are_shares_whatever_the_text(pieces: list[str]) -> None:
    document = Document(" ".join(pieces))
    shares = [document.repeated_lines(), document.characters_in_repeated_lines(), document.repeated_paragraphs()]
    shares += [document.characters_in_repeated_paragraphs(), document.share_of_words_in_empty_lines()]
    shares += [document.characters_in_repeated(length) for length in (5, 10)]
    shares += [document.share_of_ended_lines(), document.share_of_alphabetic_words(), document.share_of_short_lines(30)]
    assert all(0 <= share <= 1 for share in shares)
    # What repeats nothing repeats no longer run either.
    assert document.characters_in_repeated(10) <= document.characters_in_repeated(5) + 1e-9
