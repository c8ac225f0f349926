"""Which identification of languages is right most often, on short texts and long ones?

    python -m experiments.language [--quick] [--json FILE] [--catalogs FOLDER]

Text of known language (XQuAD in English and German, instructions in English and Chinese), cut to its first words. The
identifiers are the libraries that are installed, each over all languages that it knows, and naive Bayes on character
n-grams trained on half of these texts, which knows these three alone: measured on the other half. `--catalogs` names a
folder of gettext catalogs (LANGUAGE/LC_MESSAGES/NAME.mo), such as an editor's: programs' messages in many languages;
the n-grams are then also trained on half of these. `ours` is py3langid, which the step `language` uses; for its peers
install langdetect, lingua-language-detector and pycld2.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured, finish

from ._languages import NGRAM, Identifier, Text, catalog_texts, identifiers, ngrams, texts
from ._recipes import outside

__all__ = ["main"]

_CUTS = {"two words": 2, "five words": 5, "fifteen words": 15, "whole": 10_000}
"""The first words of a text; of Chinese, which has no spaces, twice as many characters."""
_OF_EACH = 100
"""Texts of each language that are identified."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Identification of languages, on short texts and long ones.")
    parser.add_argument("--quick", action="store_true", help="fewer texts")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--catalogs", type=Path, default=None, help="folder of gettext catalogs")
    given = parser.parse_args(arguments)
    outside("tasks/xquad/xquad.de.json")
    known = list(texts(Path(os.environ["LUTHIER_DATA"])))
    rows = _compared(known, "three languages", _CUTS, given.quick)
    if given.catalogs is not None:
        found = list(catalog_texts(given.catalogs))
        count = len({language for _, language in found})
        cuts = {name: words for name, words in _CUTS.items() if words != 15}
        rows += _compared(found, f"messages in {count} languages", cuts, given.quick)
    return finish(rows, given.json)


def _compared(known: Sequence[Text], name: str, cuts: dict[str, int], quick: bool) -> list[Measured]:
    """Accuracy of the step's identifier beside each other one's, on texts that no n-gram was trained on."""
    train, test = _alternate(known)
    chosen = _of_each(test, _OF_EACH // 8 if quick else _OF_EACH)
    all_of_them = [*identifiers(), (NGRAM, ngrams(train))]
    if all_of_them[0][0] != "py3langid":
        raise SystemExit("py3langid is not installed")
    rows = []
    for cut, words in cuts.items():
        short = [(first_words(text, words), language) for text, language in chosen]
        right = {of: _right(identify, short) for of, identify in all_of_them}
        ours, _ = right["py3langid"]
        for of, (theirs, _) in right.items():
            if of != "py3langid":
                change = (ours - theirs).astype(np.float64)
                wide = 1.96 * float(change.std()) / math.sqrt(len(change))
                mean = float(change.mean())
                rows.append(
                    Measured(
                        f"accuracy, {name}, {cut}: beside {of}",
                        float(ours.mean()),
                        float(theirs.mean()),
                        mean,
                        mean - wide,
                        mean + wide,
                    )
                )
    ours_seconds = right["py3langid"][1]
    for of, (_, seconds) in right.items():
        if of != "py3langid":
            rate = (len(chosen) / ours_seconds, len(chosen) / seconds)
            rows.append(Measured(f"texts a second, {name}, {cut}: beside {of}", *rate, rate[0] / rate[1]))
    return rows


def _alternate(known: Sequence[Text]) -> tuple[list[Text], list[Text]]:
    """Blocks of 200 texts in turn to training and test: what belongs together stays on one side."""
    sides: tuple[list[Text], list[Text]] = ([], [])
    for number, text in enumerate(known):
        sides[number // 200 % 2].append(text)
    return sides


def _of_each(known: Sequence[Text], count: int) -> list[Text]:
    """`count` texts of each language, spread evenly."""
    by_language: dict[str, list[Text]] = {}
    for text in known:
        by_language.setdefault(text[1], []).append(text)
    return [text for group in by_language.values() for text in group[:: max(1, len(group) // count)][:count]]


def first_words(text: str, words: int) -> str:
    """The text's first words; of text without spaces, two characters count as a word."""
    cut = text.split()
    if cut and len(text) / len(cut) > 30:
        return text[: 2 * words]
    return " ".join(cut[:words])


def _right(identify: Identifier, known: Sequence[Text]) -> tuple[NDArray[np.float64], float]:
    """1 where the language is the known one, and the seconds of processor time that it took."""
    start = time.process_time()
    found = [identify(text) for text, _ in known]
    seconds = time.process_time() - start
    return np.array([float(a == b) for a, (_, b) in zip(found, known, strict=True)]), seconds


if __name__ == "__main__":
    sys.exit(main())
