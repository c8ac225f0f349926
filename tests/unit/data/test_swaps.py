"""Swaps of gender in sentences: pronouns by part of speech, names, titles, terms, articles, and what stays."""

from __future__ import annotations

from collections import Counter

import pytest

from luthier.core.errors import DataError
from luthier.data.swaps.lexicon import LEXICONS, load_lexicon, plural, read_yaml, shipped
from luthier.data.swaps.names import known_person, names
from luthier.data.swaps.swap import Swapper
from luthier.data.swaps.words import article, is_english

GENDER = Swapper(load_lexicon(shipped("gender")), names(), pronouns=True)
EXACT = [
    ("I saw her.", "I saw him."),
    ("I saw her dog.", "I saw his dog."),
    ("I saw her go home.", "I saw him go home."),
    ("They gave her a book and she kept it.", "They gave him a book and he kept it."),
    ("They gave her money.", "They gave him money."),
    ("They lost her money.", "They lost his money."),
    ("It made her happy.", "It made him happy."),
    ("Her happy face was seen.", "His happy face was seen."),
    ("He loved her dearly.", "She loved him dearly."),
    ("He loved her lovely garden.", "She loved his lovely garden."),
    ("We drove her home, and her home was warm.", "We drove him home, and his home was warm."),
    ("I met her last night.", "I met him last night."),
    ("It was her first day.", "It was his first day."),
    ("She wished her well.", "He wished him well."),
    ("He is a friend of hers.", "She is a friend of his."),
    ("She is a friend of his.", "He is a friend of hers."),
    ("The book is his, not mine.", "The book is hers, not mine."),
    ("He took his own book.", "She took her own book."),
    ("HE said: his mother-in-law!", "SHE said: her father-in-law!"),
    ("He's sure she'll come herself.", "She's sure he'll come himself."),
    ("A hero and an actor met an uncle.", "A heroine and an actress met an aunt."),
    ("A king and an empress were married.", "A queen and an emperor were married."),
    ("The policemen thanked the princes' wives.", "The policewomen thanked the princesses' husbands."),
    ("Mr. Henry Brown met Mrs. Scott.", "Mrs. Martha Brown met Mr. Scott."),
    ("Miss Smith is here, sir.", "Mr. Smith is here, madam."),
    ("She met an earl.", "He met a countess."),
    ("Mary told James.", "James told Mary."),
    ("Will you ask Will?", "Will you ask Sally?"),
    ("Ladies and gentlemen, the Count of Morcerf!", "Gentlemen and ladies, the Countess of Morcerf!"),
    ("Christopher's sister laughed.", "Jennifer's brother laughed."),
]
STAYS = [
    "You can count on it.",
    "The Lord is my shepherd.",
    "They moved to Virginia.",
    "Mark my words.",
    "They live in Charlotte, North Carolina.",
    "Saint Mary Street is closed.",
    "A bachelor's degree in mankind and manners.",
    "They speak their mother tongue.",
    "Mail her@example.com or see `his = he`.",
    "My computer has more RAM.",
    "A man-made lake near a no man's land.",
]


@pytest.mark.parametrize(("old", "new"), EXACT)
def test_a_sentence_is_swapped_exactly(old: str, new: str) -> None:
    assert GENDER.swap(old) == new


@pytest.mark.parametrize("text", STAYS)
def test_what_has_no_gender_stays(text: str) -> None:
    assert GENDER.swap(text) == text


def test_a_mother_who_gives_birth_stays_one() -> None:
    assert GENDER.swap("His mother bore him.") == "Her mother bore her."
    assert GENDER.swap("His mother paid him.") == "Her father paid her."


def test_swapping_twice_gives_the_sentence_back() -> None:
    for text in (
        "Emily gave her brother his hat.",
        "An actress saw the widower's niece.",
        "Kings love queens and Tom.",
    ):
        assert GENDER.swap(text) != text
        assert GENDER.swap(GENDER.swap(text)) == text


def test_edits_name_places_in_the_old_text() -> None:
    text = "An uncle of Mary, a king."
    edits = GENDER.edits(text)
    assert [(edit.old, edit.new) for edit in edits] == [("uncle", "aunt"), ("Mary", "James"), ("king", "queen")]
    assert all(text[edit.start : edit.end] == edit.old for edit in edits)


def test_every_name_has_one_partner_of_the_other_gender() -> None:
    counted = Counter(name for pair in read_yaml(LEXICONS / "names.yaml")["pairs"] for name in pair)
    assert [name for name, count in counted.items() if count > 1] == []
    found = names()
    assert all(found.other[found.other[name]] == name for name in found.other)
    assert all(found.side[found.other[name]] != found.side[name] for name in found.other)


def test_the_articles_follow_sound_and_plurals_follow_rules() -> None:
    assert article("an", "uncle", "man") == "a"
    assert article("A", "man", "aunt") == "An"
    assert article("an", "heir", "heiress") == "an"
    assert article("a", "user", "man") == "a"
    assert [plural(word) for word in ("woman", "wife", "lady", "boy", "duchess", "hero")] == [
        "women",
        "wives",
        "ladies",
        "boys",
        "duchesses",
        "heroes",
    ]


def test_people_of_history_and_other_languages_are_known() -> None:
    assert known_person("Then Marie Curie left.") == "Marie Curie"
    assert known_person("Then Marie left with Mozartkugeln.") is None
    assert is_english("She said that it was her son.")
    assert not is_english("Die Frau ist mit dem Mann in der Stadt.")
    assert not is_english("彼女は言った")


def test_a_lexicon_of_three_sides_turns_by_the_shift(tmp_path) -> None:
    file = tmp_path / "religion.yaml"
    file.write_text(
        "axis: religion\nsides: [christian, muslim, jewish]\nnouns: [[church, mosque, synagogue]]\n"
        "terms: [[Christian, Muslim, Jewish], [Easter, Eid, null]]\nkeep: [Church of England]\n"
    )
    swapper = Swapper(load_lexicon(file))
    text = "A Christian in CHURCHES: he kept Easter. Church of England."
    assert swapper.swap(text, 1) == "A Muslim in MOSQUES: he kept Eid. Church of England."
    assert swapper.swap(text, 2) == "A Jewish in SYNAGOGUES: he kept Easter. Church of England."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- a\n", "no mapping"),
        ("axis: a\nsides: [x]\nterms: [[b]]\n", "its sides are"),
        ("axis: a\nsides: [x, y]\nterms: [[b]]\n", r"terms has the row \['b'\]"),
        ("axis: a\nsides: [x, y]\nterm: [[b, c]]\n", "did you mean 'terms'"),
        ("axis: a\nsides: [x, y]\n", "no terms"),
        ("axis: a\nsides: [x, y, z]\nterms: [[b, c, d]]\nonly: {e: f}\n", "only has e"),
        ("axis: a\nsides: [x, y]\nterms: [[b, 3]]\n", "terms has the row"),
        ("axis: a\nsides: [x, y]\nterms: b\n", "terms has the row"),
        ("axis: [a\n", "no YAML"),
    ],
)
def test_a_wrong_lexicon_is_refused_with_what_is_wrong(tmp_path, text: str, found: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=found):
        load_lexicon(file)


def test_an_absent_lexicon_names_those_that_ship() -> None:
    with pytest.raises(DataError, match="did you mean 'gender'"):
        shipped("gendr")
