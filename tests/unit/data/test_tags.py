"""Tagged tokens: files of CoNLL's kind become sentences, every way of marking spans becomes BIO, damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.core.component import build, find
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin
from luthier.core.recipe import Data, Source
from luthier.data.parts import tokens_of
from luthier.data.prepare import prepare
from luthier.data.read import Read, read

TWO = "Ada\tB-PER\nwrote\tO\n\nLondon\tB-LOC\n#\tO\n"


def one(path: Path, text: str | bytes, **source: object) -> Read:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read([Source.model_validate({"path": str(path), **source})], bad_rows="quarantine")


def tagged(found: Read) -> list[tuple[str, object]]:
    return [(str(example.parts["tokens"]), example.target) for example in found.examples]


@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.iob", "a.conll.txt", "a.CONLL"])
def test_sentences_are_rows_at_the_line_where_they_start(name: str, tmp_path: Path) -> None:
    found = one(tmp_path / name, TWO)
    assert tagged(found) == [("Ada wrote", ("B-PER", "O")), ("London #", ("B-LOC", "O"))]
    assert [(example.id, example.origin.row) for example in found.examples] == [("a:1", 1), ("a:4", 4)]
    assert found.formats[0].format == "tags"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TWO.replace("\t", " "), [("Ada wrote", ("B-PER", "O")), ("London #", ("B-LOC", "O"))]),
        (TWO.replace("\n", "\r\n"), [("Ada wrote", ("B-PER", "O")), ("London #", ("B-LOC", "O"))]),
        (
            "-DOCSTART- -X- O\n\nAda NNP B-PER\n\n-DOCSTART- -X- O\n\nwent VBD O",
            [("Ada", ("B-PER",)), ("went", ("O",))],
        ),
        ("# id = 1\n# text = Ada went\nAda\tB-PER\nwent\tO\n", [("Ada went", ("B-PER", "O"))]),
        ("New York\tB-LOC\nx\x85y\tO\n", [("New\u00a0York x\x85y", ("B-LOC", "O"))]),
        ("a DT I-NP O\n\nb NN O I-X", [("a", ("O",)), ("b", ("B-X",))]),
    ],
)
def test_what_files_of_this_kind_look_like(text: str, expected: object, tmp_path: Path) -> None:
    found = one(tmp_path / "a.conll", text)
    assert not found.bad
    assert tagged(found) == expected


def test_columns_between_can_be_named(tmp_path: Path) -> None:
    found = one(tmp_path / "a.conll", "a DT B-NP O\nb NN I-NP O\n", columns={"tags": "column_2"})
    assert tagged(found) == [("a b", ("DT", "NN"))]


def test_a_damaged_sentence_is_set_aside_alone(tmp_path: Path) -> None:
    text = b"a\tO\nb O\tx\tO\n\nc\tO\n\n\xff\tO\n\n\tO\n\nd\tO\n"
    found = one(tmp_path / "a.conll", text)
    assert [example.parts["tokens"] for example in found.examples] == ["c", "d"]
    assert [(bad.row, bad.reason) for bad in found.bad] == [
        (1, "wrong number of columns: 3 in line 2 where the file has 2"),
        (6, "not valid UTF-8: byte 0xFF at place 1 of line 6"),
        (8, "empty token: token 1 says nothing"),
    ]


def test_tokens_without_tags_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one column"):
        one(tmp_path / "a.conll", "Ada\nwrote\n")


def test_text_is_taken_for_columns_where_they_are_plain_or_named(tmp_path: Path) -> None:
    many = "".join(f"word{number}\tO\n" for number in range(6))
    for name in ("a.txt", "a.annotated"):
        assert one(tmp_path / name, many).formats[0].format == "tags"
    prose = "Plan B\nVitamin B\nFactor O\nGroup A\nGrade C\nType O\n"
    assert one(tmp_path / "b.txt", prose).formats[0].format == "text"
    assert one(tmp_path / "b.txt", "Ada NOUN\n", format="tags").examples[0].target == ("NOUN",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("I-PER I-PER O I-LOC", "B-PER I-PER O B-LOC"),  # IOB1: a span begins with I-
        ("I-PER B-PER I-LOC", "B-PER B-PER B-LOC"),  # and with B- only right after one of its kind
        ("B-PER E-PER S-LOC O", "B-PER I-PER B-LOC O"),  # BIOES
        ("B-PER L-PER U-LOC U-LOC", "B-PER I-PER B-LOC B-LOC"),  # BILOU
        ("B-PER I-PER I-PER", "B-PER I-PER I-PER"),
        ("NOUN VERB I", "NOUN VERB I"),
    ],
)
def test_every_marking_of_spans_becomes_bio(given: str, expected: str) -> None:
    tags = given.split()
    made = find("formats", "tags")().contents({"words": ["w"] * len(tags), "ner_tags": tags})
    assert made["target"] == tuple(expected.split())


def test_numbered_tags_need_names() -> None:
    record = {"tokens": ["Ada", "wrote"], "ner_tags": [1, 0]}
    with pytest.raises(ValueError, match=r"numbered tags: .*names"):
        find("formats", "tags")().contents(record)
    named = build("formats", {"tags": {"names": ["O", "B-PER"]}})
    assert named.contents(record)["target"] == ("B-PER", "O")
    with pytest.raises(ValueError, match="unknown tag: tag 1 in ner_tags is 2"):
        named.contents({**record, "ner_tags": [2, 0]})


def test_kinds_by_other_names_make_one_mixture_of_several_files(tmp_path: Path) -> None:
    """Each source by its own format; what is called O is not marked; spans side by side stay two."""
    (tmp_path / "one.conll").write_text("Acme\tB-corporation\nABBA\tB-group\nrocks\tO\nUlysses\tI-creative-work\n")
    (tmp_path / "two.conll").write_text("Acme I-ORG\nABBA I-MISC\nrocks O\nAda I-PER\n")
    kinds = {"corporation": "ORG", "group": "ORG", "creative-work": "O"}
    data = {
        "train": [
            {"path": str(tmp_path / "one.conll"), "format": {"tags": {"kinds": kinds}}},
            {"path": str(tmp_path / "two.conll")},
        ],
        "format": {"tags": {"kinds": {"MISC": "O"}}},
    }
    rows = prepare(Data.model_validate(data), 1).splits["train"]
    assert [row.target for row in rows] == [("B-ORG", "B-ORG", "O", "O"), ("B-ORG", "O", "O", "B-PER")]
    side_by_side = find("formats", "tags")(kinds=kinds).contents(
        {"tokens": ["Acme", "ABBA"], "tags": ["I-corporation", "I-group"]}
    )
    assert side_by_side["target"] == ("B-ORG", "B-ORG")
    speech = find("formats", "tags")(kinds={"NN": "O"}).contents({"tokens": ["Acme"], "tags": ["NN"]})
    assert speech["target"] == ("NN",)
    with pytest.raises(ValueError, match="'a b', which is not one word"):
        find("formats", "tags")(kinds={"group": "a b"})


def test_tokens_that_a_step_has_changed_are_refused_by_name() -> None:
    row = Example("a:1", {"tokens": "Ada wrote"}, Origin("a", 1), ("B-PER", "O"))
    assert tokens_of(row) == (("Ada", "wrote"), ("B-PER", "O"))
    assert tokens_of(row.map_text(str.upper, "shout"))[0] == ("ADA", "WROTE")
    with pytest.raises(DataError, match="3 tokens and 2 tags, after the steps spell") as caught:
        tokens_of(row.map_text(lambda text: text + " much", "spell"))
    assert "spell" in str(caught.value.problems[0].remedy)
    with pytest.raises(DataError, match="has no tagged tokens"):
        tokens_of(Example("a:2", {"text": "Ada"}, Origin("a", 2)))


REAL = {
    "tasks/ner/wikigold/CONLL-format/data/wikigold.conll.txt": (1696, 3558),
    "tasks/ner/WNUT17/CONLL-format/data/test/emerging.test.annotated": (1287, 1079),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_published_numbers_of_sentences_and_spans(name: str, data_file) -> None:
    found = read([Source(path=str(data_file(name)))])
    spans = sum(tag.startswith("B-") for example in found.examples for tag in example.target)
    assert (len(found.examples), spans) == REAL[name]
