"""Texts whose language is known, and the identifiers that are compared on them."""

from __future__ import annotations

import gettext
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["NGRAM", "Identifier", "catalog_texts", "identifiers", "ngrams", "texts"]

NGRAM = "character n-grams trained here"

Identifier = Callable[[str], str]
"""The ISO 639-1 code of a text's language; "" where the identifier names none."""

Text = tuple[str, str]
"""A text and the code of its language."""

_SAME = {"nb": "no", "nn": "no"}
"""Codes of written standards that most identifiers have under one code."""


def texts(data: Path) -> Iterator[Text]:
    """Paragraphs, questions and answers in English and German, instructions and answers in English and Chinese.

    Each once; those of one article or row stay together in order.
    """
    seen = set()
    for text, language in _all_texts(data):
        if text not in seen and re.search(r"[^\W\d_]{2}", text):
            seen.add(text)
            yield text, language


def _all_texts(data: Path) -> Iterator[Text]:
    for language in ("en", "de"):
        articles = json.loads((data / f"tasks/xquad/xquad.{language}.json").read_text(encoding="utf-8"))["data"]
        for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
            yield paragraph["context"], language
            for item in paragraph["qas"]:
                yield item["question"], language
    for language in ("en", "zh"):
        rows = json.loads(
            (data / f"instructions/llama-factory-demos/alpaca_{language}_demo.json").read_text(encoding="utf-8")
        )
        for row in rows:
            # Some rows ask for a translation or hold code: their answers are in no one language.
            if not re.search(r"translat|翻译|code|代码|program|```", row["instruction"] + row["output"], re.IGNORECASE):
                yield row["instruction"], language
                yield row["output"], language


def catalog_texts(folder: Path) -> Iterator[Text]:
    """Messages of programs, from gettext catalogs at LANGUAGE/LC_MESSAGES/NAME.mo: many languages, mostly short."""
    seen = set()
    for path in sorted(folder.glob("*/LC_MESSAGES/*.mo")):
        named = re.fullmatch(r"([a-z]{2})(?:_[A-Z]{2})?(?:\.UTF-8)?", path.parts[-3])
        if named is None or named[1] == "en":  # what is not translated, or a catalog in an old encoding
            continue
        try:
            with path.open("rb") as file:
                catalog: dict[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        except UnicodeDecodeError:
            continue
        for key, text in sorted(catalog.items(), key=str):
            words = " ".join(re.sub(r"%\S*|\\?[\"'<>{}|]", " ", text).split())
            if key and text != key and words not in seen and re.search(r"[^\W\d_]{2}", words):
                seen.add(words)
                yield words, _SAME.get(named[1], named[1])


def ngrams(train: Sequence[Text]) -> Identifier:
    """Naive Bayes on hashed runs of one to four characters, as a small classifier of one's own would be."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.naive_bayes import MultinomialNB

    vectors = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 4), n_features=2**18, alternate_sign=False)
    model = MultinomialNB(alpha=0.01, fit_prior=False)
    shuffled = list(train)
    random.Random(1).shuffle(shuffled)
    model.fit(vectors.transform(text for text, _ in shuffled), [language for _, language in shuffled])
    return lambda text: str(model.predict(vectors.transform([text]))[0])


def identifiers() -> Iterator[tuple[str, Identifier]]:
    """The libraries that are installed here, each with its own model."""
    for name, load in (
        ("py3langid", _py3langid),
        ("langdetect", _langdetect),
        ("lingua", _lingua),
        ("pycld2", _pycld2),
    ):
        try:
            yield name, load()
        except ImportError:
            continue


def _py3langid() -> Identifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def identify(text: str) -> str:
        found = str(identifier.classify(text)[0])
        return _SAME.get(found, found)

    return identify


def _langdetect() -> Identifier:
    import langdetect

    langdetect.DetectorFactory.seed = 1

    def identify(text: str) -> str:
        try:
            return str(langdetect.detect(text)).partition("-")[0]
        except langdetect.LangDetectException:
            return ""

    return identify


def _lingua() -> Identifier:
    import lingua

    detector = lingua.LanguageDetectorBuilder.from_all_languages().build()

    def identify(text: str) -> str:
        found = detector.detect_language_of(text)
        return "" if found is None else str(found.iso_code_639_1.name).lower()

    return identify


def _pycld2() -> Identifier:
    import pycld2

    def identify(text: str) -> str:
        try:
            return str(pycld2.detect(text)[2][0][1]).partition("-")[0]
        except pycld2.error:
            return ""

    return identify
