"""Short rows of text as people collect them: words by Zipf's law, copies, near copies, remains of web pages.

A row has 12 to 160 words, 40 on average; 15 % are copies of an earlier row (a third of them in other case or with other
spaces), 10 % are near copies (one word in thirty is another), 12 % hold what cleaning repairs, 5 % an address or a
telephone number. The same count and seed give the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.random import Generator

__all__ = ["COPIES", "NEAR", "texts", "write_rows"]

COPIES, NEAR = 0.15, 0.10
_WORDS = 20_000
_SYLLABLES = [consonant + vowel for consonant in "bdfghklmnprstvw" for vowel in "aeio"]
_DAMAGE = (
    "<p>{}</p>",
    "{}<br>\n\n\n\n\n<b>more</b>",
    "{} &amp; &lt;so on&gt;",
    "{}   \r\n\r\nend",
    "\ufeff{} a\u200bb",
    "{} cafÃ© naÃ¯ve jalapeÃ±o",
)


def texts(count: int, seed: int = 11) -> list[str]:
    """So many rows, in an order in which a copy stands anywhere after its original."""
    random = np.random.default_rng([seed, count])
    words = _vocabulary(random)
    chance = 1 / np.arange(1, _WORDS + 1)
    edges = np.cumsum(chance / chance.sum())
    lengths = np.clip(random.lognormal(3.55, 0.5, count), 12, 160).astype(int)
    drawn = np.minimum(np.searchsorted(edges, random.random(int(lengths.sum()))), _WORDS - 1)
    kinds = random.random(count)
    earlier = (random.random(count) * np.arange(count)).astype(int)
    found: list[str] = []
    end = 0
    for row, length in enumerate(lengths.tolist()):
        start, end = end, end + length
        if row and kinds[row] < COPIES:
            text = found[earlier[row]]
            found.append(text if kinds[row] < COPIES * 2 / 3 else f" {text.upper()}")
        elif row and kinds[row] < COPIES + NEAR:
            found.append(_nearly(found[earlier[row]], words, random))
        else:
            found.append(_told([words[number] for number in drawn[start:end]], float(kinds[row]), random))
    return found


def write_rows(file: Path, count: int, seed: int = 11) -> None:
    """The rows as JSONL, {"text": ...}."""
    with file.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts(count, seed))


def _vocabulary(random: Generator) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < _WORDS:
        count = 1 + int(random.integers(1, 4))
        found.setdefault("".join(_SYLLABLES[i] for i in random.integers(0, len(_SYLLABLES), count)))
    return sorted(found, key=len)


def _told(words: list[str], kind: float, random: Generator) -> str:
    """Sentences of these words, some of them damaged, some with something personal in them."""
    for place in range(0, len(words), 11):
        words[place] = words[place].capitalize()
        if place:
            words[place - 1] += "."
    text = " ".join(words) + "."
    share = max(kind - COPIES - NEAR, 0) / (1 - COPIES - NEAR)  # the first row can be no copy
    if share < 0.16:
        text = _DAMAGE[int(share / 0.16 * len(_DAMAGE))].format(text)
    elif share < 0.23:
        number = int(random.integers(10_000, 99_999))
        text += f" Write to {words[1]}{number}@example.com." if number % 2 else f" Call +44 20 7946 {number}."
    return text


def _nearly(text: str, words: list[str], random: Generator) -> str:
    """The text with every thirtieth word or so replaced, at least one of them."""
    pieces = text.split(" ")
    for place in random.integers(0, len(pieces), max(1, len(pieces) // 30)).tolist():
        pieces[place] = words[int(random.integers(0, _WORDS))]
    return " ".join(pieces)
