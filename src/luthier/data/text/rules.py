"""A rule of quality: a measure with a limit; and the rules for documents that the published pipelines state.

Sources: Gopher, Rae et al. 2021 (arXiv:2112.11446), section A.1.1 and table A1; C4, Raffel et al. 2020
(arXiv:1910.10683), section 2.2; RefinedWeb, Penedo et al. 2023 (arXiv:2306.01116), section G.2; FineWeb, Penedo et al.
2024 (arXiv:2406.17557), section 3.5. What those do to a line is done here to a document, or by the step `clean`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, Literal, TypeVar

from .document import Document
from .language import probabilities, prose

__all__ = ["DOCUMENTS", "Rule"]

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Rule(Generic[Measured]):
    """What is measured must be at least, or at most, the limit; None: the rule is off unless a limit is given.

    at_limit: whether the limit itself still holds.
    """

    name: str
    measure: Callable[[Measured], float]
    bound: Literal["least", "most"]
    limit: float | None
    at_limit: bool = True

    def broken(self, value: float, limit: float) -> bool:
        """Whether a measured value breaks the rule."""
        if value == limit:
            return not self.at_limit
        return value < limit if self.bound == "least" else value > limit


_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_OTHERWISE = float(len(_STOP_WORDS))


def _stop_words(document: Document) -> float:
    """Distinct ones; of a text in another language than English all of them, since the rule says nothing of it."""
    found = document.distinct(_STOP_WORDS)
    if found < 2 and next(iter(probabilities(prose(document.text)))) != "en":
        return _OTHERWISE
    return float(found)


def _mean_word_length(document: Document, otherwise: float) -> float:
    return document.mean_word_length() if document.is_spaced else otherwise


def _lorem_ipsum(document: Document) -> float:
    return float(document.text.lower().count("lorem ipsum"))


def _braces(document: Document) -> float:
    return float(document.text.count("{"))


def _broken_characters(document: Document) -> float:
    return document.text.count("\ufffd") / max(1, len(document.text))


def _words(document: Document) -> float:
    return float(len(document.words))


def _sentences(document: Document) -> float:
    return float(document.sentences())


_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

DOCUMENTS: tuple[Rule[Document], ...] = (
    Rule("gopher_fewest_words", _words, "least", 50),
    Rule("gopher_most_words", _words, "most", 100_000),
    Rule("gopher_shortest_mean_word", partial(_mean_word_length, otherwise=5.0), "least", 3),
    Rule("gopher_longest_mean_word", partial(_mean_word_length, otherwise=5.0), "most", 10),
    Rule("gopher_hashes", partial(Document.symbols_per_word, symbols=("#",)), "most", 0.1),
    Rule("gopher_ellipses", partial(Document.symbols_per_word, symbols=("...", "…")), "most", 0.1),
    Rule("gopher_bullet_lines", Document.share_of_bullet_lines, "most", 0.9),
    Rule("gopher_ellipsis_lines", Document.share_of_ellipsis_lines, "most", 0.3),
    Rule("gopher_alphabetic_words", Document.share_of_alphabetic_words, "least", 0.8),
    Rule("gopher_stop_words", _stop_words, "least", 2),
    Rule("gopher_repeated_lines", Document.repeated_lines, "most", 0.30),
    Rule("gopher_repeated_paragraphs", Document.repeated_paragraphs, "most", 0.30),
    Rule("gopher_repeated_line_characters", Document.characters_in_repeated_lines, "most", 0.20),
    Rule("gopher_repeated_paragraph_characters", Document.characters_in_repeated_paragraphs, "most", 0.20),
    *(
        Rule(f"gopher_top_{length}_grams", partial(Document.characters_in_top, length=length), "most", limit)
        for length, limit in _TOP.items()
    ),
    *(
        Rule(f"gopher_repeated_{length}_grams", partial(Document.characters_in_repeated, length=length), "most", limit)
        for length, limit in _REPEATED.items()
    ),
    Rule("c4_sentences", _sentences, "least", 3),
    Rule("c4_lorem_ipsum", _lorem_ipsum, "most", 0),
    Rule("c4_braces", _braces, "most", None),  # code is data here: off unless asked for
    Rule("refinedweb_empty_lines", Document.share_of_words_in_empty_lines, "most", 0.05),
    Rule("fineweb_ended_lines", Document.share_of_ended_lines, "least", 0.12, at_limit=False),
    Rule("fineweb_short_lines", partial(Document.share_of_short_lines, shortest=30), "most", 0.67, at_limit=False),
    Rule("fineweb_repeated_line_characters", Document.characters_in_repeated_lines, "most", 0.1, at_limit=False),
    Rule("broken_characters", _broken_characters, "most", 0.001),
)
