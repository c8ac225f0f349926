"""The experiment on languages: what is cut, what is trained on, and that sides do not share texts."""

from __future__ import annotations

from experiments._languages import ngrams
from experiments.language import _alternate, _of_each, first_words


def test_texts_are_cut_to_their_first_words() -> None:
    assert first_words("one two three", 2) == "one two"
    assert first_words("那座古老的磨坊矗立在河边两百年来一直在磨玉米农民们赶着马车把粮食运来", 2) == "那座古老"
    assert first_words("", 2) == ""


def test_training_and_test_share_no_text_and_each_language_is_asked_alike() -> None:
    known = [(f"text {number}", "en" if number % 3 else "de") for number in range(900)]
    train, test = _alternate(known)
    assert sorted(train + test) == sorted(known)
    assert not set(train) & set(test)
    chosen = _of_each(test, 50)
    assert [sum(language == code for _, language in chosen) for code in ("en", "de")] == [50, 50]


def test_ngrams_learn_the_languages_that_they_are_shown() -> None:
    english = [(f"the mill stands by the river number {n}", "en") for n in range(20)]
    german = [(f"die Mühle steht am Fluss Nummer {n}", "de") for n in range(20)]
    identify = ngrams(english + german)
    assert (identify("by the river"), identify("steht am Fluss")) == ("en", "de")
