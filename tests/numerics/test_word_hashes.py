"""Words as hashes, by bytes and by regular expression alike, against the polynomial written out."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.functional import word_hashes as module
from luthier.functional.word_hashes import word_hashes

BASE = 0x9FB21C651E98DF25


def polynomial(word: str) -> int:
    return sum(byte * pow(BASE, place, 1 << 64) for place, byte in enumerate(word.encode())) % (1 << 64)


def plain(texts: list[str]) -> tuple[list[int], list[int]]:
    words = [re.findall(r"\w+|[^\w\s]", text.casefold()) for text in texts]
    return [polynomial(word) for some in words for word in some], [len(some) for some in words]


ascii_texts = st.text(st.characters(max_codepoint=127), max_size=30)


@given(st.lists(ascii_texts | st.text("aB_ é.漢\n", max_size=20), max_size=6))
def test_hashes_are_those_of_the_words_whatever_the_alphabet(texts: list[str]) -> None:
    hashes, counts = word_hashes(texts)
    assert (hashes.tolist(), counts.tolist()) == plain(texts)
    assert hashes.dtype == np.uint64


@pytest.mark.parametrize("texts", [[], [""], ["", "  ", "a"], ["a", ""], ["\n", "b c", "\x00\x1c!"]])
def test_texts_without_words(texts: list[str]) -> None:
    hashes, counts = word_hashes(texts)
    assert (hashes.tolist(), counts.tolist()) == plain(texts)


def test_a_forgotten_word_has_the_same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["größer heißt weiter weg", "größer"]
    before = word_hashes(texts)[0].tolist()
    monkeypatch.setattr(module, "_KNOWN", 1)
    monkeypatch.setattr(module, "_known", module._Polynomials())
    assert word_hashes(texts)[0].tolist() == before


def test_hashes_do_not_depend_on_which_powers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["  a long, longer and longest text", "of two lines"]
    before = word_hashes(texts)[0].tolist()
    monkeypatch.setattr(module, "_KEPT", 4)
    assert word_hashes(texts)[0].tolist() == before == plain(texts)[0]


def test_a_hundred_thousand_words_do_not_collide() -> None:
    words = [f"{first}{second}" for first in "abcdefghij" for second in range(10_000)]
    assert len(set(word_hashes([" ".join(words)])[0].tolist())) == 100_000
