"""The mixture that the embedded model is trained from: nothing of a test text in it, questions that can be answered."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

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


def test_what_a_gap_asks_for_stands_in_the_passage() -> None:
    sentences = [
        f"On day {n} the miller said to his {n} sons that the mill was theirs, and went to bed." for n in range(9)
    ]
    texts = ["\n\n".join([" ".join(sentences[:5]), " ".join(sentences[5:])])]
    rows = list(make_nano.gaps(texts, 20, random.Random(1)))
    assert len(rows) == 20
    for row in rows:
        asked, answer = (turn["content"] for turn in row["messages"])
        passage, _, question = asked.partition("\n\nFill the gap: ")
        before, _, after = question.partition("___")
        assert answer
        assert answer in passage
        assert before.strip() in passage
        assert after.strip() in passage


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
