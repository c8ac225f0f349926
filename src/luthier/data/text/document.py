"""A text measured as the published pipelines measure web documents: words, lines, paragraphs, and what is repeated.

Words stand between white space; of scripts that write none (Chinese, Japanese), each letter is a word. Shares of
repetition count the characters of words from their second time on, each once, as datatrove and RedPajama do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

__all__ = ["Document"]

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_WORD = re.compile(rf"{_UNSPACED.pattern}|(?:(?!{_UNSPACED.pattern})\S)+")
_SENTENCE_END = re.compile(r"[.!?…](?=[\"”’')\]]*(?:\s|$))|[。！？]")
_ENDS_WELL = re.compile(r"[.!?…。！？][\"”’'»)\]]*$|[\"”]$")
_ELLIPSIS_END = re.compile(r"(?:\.\.\.|…)$")
_BULLET = re.compile(r"[-*•‣◦▪●–+]\s|[•‣◦▪●]")
_COUNTER = re.compile(r"\W*[\d.,]+[KkMm]?\s+(?:likes?|shares?|comments?|retweets?|reposts?|quotes?|bookmarks?|upvotes?"
                      r"|downvotes?|downloads?|views?|followers?)\W*", re.IGNORECASE)  # fmt: skip


class Document:
    """The measures of one text; each is computed when it is first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        """Runs between white space; letters of unspaced scripts by themselves."""
        if self.text.isascii() or not _UNSPACED.search(self.text):
            return self.text.split()
        return _WORD.findall(self.text)

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without the white space around them."""
        return [line.strip() for line in self.text.split("\n") if line.strip()]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What blank lines divide."""
        return [part.strip() for part in re.split(r"\n\s*\n", self.text) if part.strip()]

    @cached_property
    def is_spaced(self) -> bool:
        """Whether its script writes spaces: lengths of words mean something."""
        return 3 * len(_UNSPACED.findall(self.text)) < sum(character.isalpha() for character in self.text)

    @cached_property
    def characters(self) -> int:
        """Characters of all words."""
        return sum(map(len, self.words))

    def mean_word_length(self) -> float:
        """Characters of a word."""
        return self.characters / len(self.words) if self.words else 0.0

    def symbols_per_word(self, symbols: Sequence[str]) -> float:
        """How often one of the symbols comes, divided by the number of words."""
        return sum(map(self.text.count, symbols)) / len(self.words) if self.words else 0.0

    def share_of_alphabetic_words(self) -> float:
        """Words with at least one letter."""
        return _share(any(map(str.isalpha, word)) for word in self.words)

    def share_of_bullet_lines(self) -> float:
        """Lines that begin with the sign of a list."""
        return _share(bool(_BULLET.match(line)) for line in self.lines)

    def share_of_ellipsis_lines(self) -> float:
        """Lines that end in three dots."""
        return _share(bool(_ELLIPSIS_END.search(line)) for line in self.lines)

    def share_of_ended_lines(self) -> float:
        """Lines that end as sentences do."""
        return _share(bool(_ENDS_WELL.search(line)) for line in self.lines)

    def share_of_short_lines(self, shortest: int) -> float:
        """Lines with fewer than `shortest` characters."""
        return _share(len(line) < shortest for line in self.lines)

    def sentences(self) -> int:
        """Ends of sentences."""
        return len(_SENTENCE_END.findall(self.text))

    def distinct(self, words: frozenset[str]) -> int:
        """How many of `words` it holds, whatever their case."""
        return len(words.intersection(word.strip(".,;:!?\"'()").lower() for word in self.words))

    def share_of_words_in_empty_lines(self) -> float:
        """Words in lines that say nothing: in capitals, of digits alone, counters ("3 likes"), one word; RefinedWeb's
        line-wise corrections.
        """
        wrong = sum(len(line.split()) for line in self.lines if _says_nothing(line))
        return wrong / max(1, len(self.text.split()))

    def repeated_lines(self) -> float:
        """Share of the lines that stood before."""
        return _repeated(self.lines)[0]

    def characters_in_repeated_lines(self) -> float:
        """Share of the characters that are in them."""
        return _repeated(self.lines)[1]

    def repeated_paragraphs(self) -> float:
        """Share of the paragraphs that stood before."""
        return _repeated(self.paragraphs)[0]

    def characters_in_repeated_paragraphs(self) -> float:
        """Share of the characters that are in them."""
        return _repeated(self.paragraphs)[1]

    def characters_in_top(self, length: int) -> float:
        """Share of the words' characters in the run of `length` words that comes most often; 0 where none comes twice.

        Of runs that come equally often the longest counts.
        """
        counts = Counter(self._runs(length))
        if not counts:
            return 0.0
        run, count = max(counts.items(), key=lambda item: (item[1], sum(map(len, item[0])), item[0]))
        return count * sum(map(len, run)) / self.characters if count > 1 else 0.0

    def characters_in_repeated(self, length: int) -> float:
        """Share of the words' characters in runs of `length` words that stood before."""
        if not self.characters:
            return 0.0
        seen: set[tuple[str, ...]] = set()
        again = bytearray(len(self.words))
        for start, run in enumerate(self._runs(length)):
            if run in seen:
                again[start : start + length] = b"\1" * length
            seen.add(run)
        return sum(len(word) for word, twice in zip(self.words, again, strict=True) if twice) / self.characters

    def _runs(self, length: int) -> list[tuple[str, ...]]:
        return list(zip(*(self.words[start:] for start in range(length)), strict=False))


def _says_nothing(line: str) -> bool:
    words = line.split()
    letters = [character for character in line if character.isalpha()]
    if not letters:
        return any(map(str.isdigit, line))
    cased = [character for character in letters if character.lower() != character.upper()]
    capitals = sum(character.isupper() for character in cased)
    return (
        (len(words) == 1 and not _UNSPACED.search(line))
        or (bool(cased) and 2 * capitals > len(letters))
        or bool(_COUNTER.fullmatch(line))
    )


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / len(values) if values else 0.0


def _repeated(pieces: Sequence[str]) -> tuple[float, float]:
    """Shares of the pieces that stood before, and of the characters that are in them."""
    if not pieces:
        return 0.0, 0.0
    seen: set[str] = set()
    count = characters = 0
    for piece in pieces:
        if piece in seen:
            count += 1
            characters += len(piece)
        seen.add(piece)
    return count / len(pieces), characters / sum(map(len, pieces))
