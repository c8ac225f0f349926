"""Tagged sentences from rules: a grammar without context, written in the YAML files beside this one.

A rule's text holds other rules in braces and # for a digit. The rules in MARKED are spans; one within another (the city
of an address) is part of it. An article before a name is not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..augment.draws import Draws
from ..personal.names import SURNAMES
from ..swaps.lexicon import LEXICONS, read_yaml
from .words import words_in

__all__ = ["KINDS", "MARKED", "Sentence", "expanded", "in_tags", "made", "rules"]

MARKED = {"PER": "PER", "GIVEN": "PER", "SURNAME": "PER", "ORG": "ORG", "LOC": "LOC", "ADDRESS": "ADDRESS"}
"""The rules that are spans, by the kind that they are tagged as."""
KINDS = ("PER", "ORG", "LOC", "ADDRESS")
"""Each of them is also the rule for all that it may be."""
Lend = Callable[[str, Draws], str | None]
"""A mention for a rule of MARKED in place of a made one; None: it is made."""
_FILES = ("names", "addresses", "sentences")
_PIECE = re.compile(r"\{(\w+)\}|#")
_ARTICLE = re.compile(r"the\s+", re.IGNORECASE)


@dataclass
class Sentence:
    """A text that grows, and its spans: start, end, kind."""

    text: str = ""
    spans: list[tuple[int, int, str]] = field(default_factory=list)


@cache
def rules() -> Mapping[str, Sequence[str]]:
    """The ways to write each rule; usual given names and surnames are those of pseudonyms and counterfactuals."""
    pairs = read_yaml(LEXICONS / "names.yaml")["pairs"]
    found: dict[str, Sequence[str]] = {
        "female": [female for female, _ in pairs],
        "male": [male for _, male in pairs],
        "surname_usual": SURNAMES,
    }
    for name in _FILES:
        file = Path(__file__).with_name(f"{name}.yaml")
        for rule, text in read_yaml(file).items():
            # Lines end with a line end, the last too; what is in commas was folded to one line without.
            found[rule] = text.splitlines() if text.endswith("\n") else [one.strip() for one in text.split(",")]
    return found


def expanded(rule: str, draws: Draws) -> str:
    """One of the ways to write a rule, without spans and an article before it."""
    sentence = Sentence()
    _write(f"{{{rule}}}", draws, sentence, None, marking=False)
    article = _ARTICLE.match(sentence.text)
    return sentence.text[article.end() :] if article else sentence.text


def made(draws: Draws, lend: Lend | None = None) -> Sentence:
    """A sentence with its spans."""
    sentence = Sentence()
    _write("{sentence}", draws, sentence, lend, marking=True)
    return sentence


def _write(text: str, draws: Draws, into: Sentence, lend: Lend | None, *, marking: bool) -> None:
    at = 0
    for piece in _PIECE.finditer(text):
        into.text += text[at : piece.start()]
        at = piece.end()
        rule = piece[1]
        if rule is None:
            into.text += str(draws.below(10))
        elif marking and rule in MARKED:
            start = len(into.text)
            lent = lend(rule, draws) if lend is not None else None
            if lent is None:
                _write(draws.one(rules()[rule]), draws, into, lend, marking=False)
            else:
                into.text += lent
            article = _ARTICLE.match(into.text, start)
            into.spans.append((article.end() if article else start, len(into.text), MARKED[rule]))
        else:
            _write(draws.one(rules()[rule]), draws, into, lend, marking=marking)
    into.text += text[at:]


def in_tags(sentence: Sentence) -> tuple[str, tuple[str, ...]]:
    """The sentence's words, joined by spaces, and their tags (BIO)."""
    words, tags, last = [], [], None
    for start, end in words_in(sentence.text):
        words.append(sentence.text[start:end])
        span = next((span for span in sentence.spans if span[0] <= start < span[1]), None)
        tags.append("O" if span is None else f"{'I' if span is last else 'B'}-{span[2]}")
        last = span
    return " ".join(words), tuple(tags)
