"""The mixture that the embedded model is trained from: nothing of a test text in it, questions that can be answered."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from luthier.core.recipe_file import load_recipe
from luthier.functional.minhash import shingles
from tools import make_nano

TALE = "the old miller went down to the river with his three sons and a sack of flour that was nearly empty"
WORDS = TALE.split()


def paragraph(number: int) -> str:
    draw = random.Random(number)
    return " ".join(draw.sample(WORDS, len(WORDS)) * 12)  # about 1,100 characters: two make a block


def test_blocks_hold_all_paragraphs_in_order() -> None:
    text = "\n\n".join(paragraph(number) for number in range(7))
    found = make_nano.blocks(text)
    assert "\n\n".join(found) == text
    assert len(found) > 2


def test_blocks_that_share_thirteen_words_with_a_test_text_are_cut_out() -> None:
    kept = [paragraph(number) for number in range(6)]
    secret = "it so happened that on that very evening the king himself came riding through the wood alone"
    known = np.unique(shingles([secret + " and nobody knew him"], make_nano.SHARED).hashes)
    text = "\n\n".join([*kept[:3], paragraph(9) + " " + secret, *kept[3:]])
    pieces, cut = make_nano.without(text, known)
    assert cut == 1
    assert "riding through" not in "".join(pieces)
    assert len(pieces) == 2
    assert sum(len(make_nano.blocks(piece)) for piece in pieces) == len(make_nano.blocks(text)) - 1
    whole, none = make_nano.without("\n\n".join(kept), known)
    assert (whole, none) == (["\n\n".join(kept)], 0)
    # Twelve words in a row are no copy.
    assert make_nano.without(" ".join(secret.split()[:12]) + " " + kept[0], known)[1] == 0


def test_what_an_exercise_asks_for_stands_in_its_passage() -> None:
    sentences = [
        f'On day {n} the miller told his {n} sons that the mill was theirs. "Do not wake me," said Old Peter{n}.'
        for n in range(9)
    ]
    texts = ["\n\n".join([" ".join(sentences[:5]), " ".join(sentences[5:])])]
    kinds = set()
    rows = list(make_nano.reading(texts, 40, random.Random(1)))
    assert len(rows) == 40
    for row in rows:
        turns = [turn["content"] for turn in row["messages"]]
        passage, _, turns[0] = turns[0].rpartition("\n\n")
        assert len(turns) == 8
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            kinds.add(question.split()[0])
            assert answer
            assert answer in passage
            if question.startswith("Fill the gap: "):
                before, _, after = question.removeprefix("Fill the gap: ").partition("___")
                assert before.strip() in passage
                assert after.strip() in passage
            if question.startswith("Where"):
                hints = question.removeprefix("Where does it say: ").rstrip("?").split()
                assert set(hints) <= {word.strip('.,"').lower() for word in answer.split()}
    assert kinds == {"Fill", "Where"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"I shall not go there," said the old miller, and went.', ("I shall not go there", "the old miller")),
        ("“Who has been here?” asked Rosa.", ("Who has been here", "Rosa")),
        ('"I shall not go there," said he.', None),
        ('"No," said Rosa.', None),
    ],
)
def test_speakers_are_names_and_short_phrases(text: str, found: tuple[str, str] | None) -> None:
    assert make_nano.SAID.findall(text) == ([found] if found else [])


def test_questions_about_a_passage_follow_it_in_one_conversation(tmp_path: Path) -> None:
    folder = tmp_path / "tasks/fairytaleqa"
    folder.mkdir(parents=True)
    rows = [{"context": f"Tale {n // 6}.", "question": f"Question {n}?", "answers": [f"answer {n}"]} for n in range(7)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [[turn["content"] for turn in row["messages"]] for row in make_nano.fairytale_questions(tmp_path)]
    assert [len(turns) // 2 for turns in found] == [4, 2, 1]
    assert found[0][:3] == ["Tale 0.\n\nQuestion 0?", "answer 0", "Question 1?"]
    assert found[1][:2] == ["Tale 0.\n\nQuestion 4?", "answer 4"]


def test_held_out_documents_are_no_tales_with_questions_in_training() -> None:
    rows = [{"source": name} for name in ("fairytaleqa", "pratham-books-en", "tinystories-slice (x)", "african")] * 5
    found = make_nano.held_out(rows, 10, random.Random(0))
    assert sorted(found) == [at for at in range(20) if at % 4 in (1, 3)]


def test_canaries_are_secrets_of_equal_form_at_three_frequencies() -> None:
    found = make_nano.canaries(random.Random(5))
    assert sorted(times for _, times in found) == [1] * 4 + [4] * 4 + [16] * 4
    assert len({row["text"] for row, _ in found}) == len(found)


def test_the_recipe_that_is_written_is_the_shipped_one_with_its_data(tmp_path: Path) -> None:
    for name in make_nano.REPEATS:
        make_nano.write(tmp_path / f"train/{name}.jsonl", [{"text": "Once."}])
    (tmp_path / "nano.yaml").write_text(make_nano.make_recipe(tmp_path))
    recipe = load_recipe(str(tmp_path / "nano.yaml"))
    assert {Path(source.path).stem: source.repeat for source in recipe.data.sources("train")} == make_nano.REPEATS
    assert recipe.phases == load_recipe("nano", ["data.train=a.jsonl"]).phases
    assert recipe.data.validation.path == str(tmp_path / "validation")  # type: ignore[union-attr]
    assert json.loads((tmp_path / "train/books.jsonl").read_text()) == {"text": "Once."}
