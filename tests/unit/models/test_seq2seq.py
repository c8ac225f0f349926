"""Texts rewritten by an encoder-decoder: transformers' own greedy answers, and draws that belong to the item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from masked import seq2seq_folder

from luthier.core.errors import ModelError
from luthier.models.decoding import Request, chooser
from luthier.models.generate_encoded import generate_encoded
from luthier.models.seq2seq import Seq2Seq, is_seq2seq, load_seq2seq

TEXTS = ["the small wolf sang to the moon and listened .", "my card", "where is the old house ?", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seq2seq_folder(tmp_path_factory.mktemp("seq2seq"))


def rewrite(model: Seq2Seq, texts: list[str], temperature: float = 0.0, **more: Any) -> list[str]:
    given = {"top_p": 1.0, "seeds": [7 + number for number in range(len(texts))], "max_new_tokens": 12} | more
    return model.rewrite(texts, temperature=temperature, **given)


def test_greedy_answers_are_those_of_transformers(folder: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    wanted = []
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        out = model.generate(ids, max_new_tokens=12, do_sample=False, bad_words_ids=[[0]])
        wanted.append(tokenizer.decode(out[0], skip_special_tokens=True).strip())
    assert any(wanted)
    assert rewrite(load_seq2seq(str(folder)), TEXTS) == wanted


def test_draws_belong_to_the_item_and_not_to_its_batch(folder: Path) -> None:
    model = load_seq2seq(str(folder))
    together = rewrite(model, TEXTS, 1.0)
    assert together == [rewrite(model, [text], 1.0, seeds=[7 + n])[0] for n, text in enumerate(TEXTS)]
    assert together == rewrite(Seq2Seq(model.model, model.tokenizer, model.max_length, 8), TEXTS, 1.0)
    assert together != rewrite(model, TEXTS, 1.0, seeds=[1, 2, 3, 4])


def test_nothing_is_padded_within_an_answer(folder: Path) -> None:
    model = load_seq2seq(str(folder))
    choose = chooser(3.0, 1.0, range(30), 12)
    request = Request([[5, 6, 3]] * 30, [12] * 30, frozenset({3}), 0, None, 8192, choose)
    with torch.inference_mode():
        answers = generate_encoded(model.model, request)
    assert sum(map(len, answers)) > 100
    assert not any(0 in answer for answer in answers)


def test_a_row_that_has_ended_leaves_the_others_as_they_were(folder: Path) -> None:
    """Rooms of 1, 3 and 12 tokens: the batch shrinks twice on its way."""
    model = load_seq2seq(str(folder)).model
    prompts, rooms = [[5, 6, 7, 3], [8, 3], [9, 10, 11, 3], [5, 3], [6, 3]], [1, 3, 12, 1, 3]

    def answers(chosen: list[int]) -> list[list[int]]:
        choose = chooser(3.0, 1.0, [20 + item for item in chosen], 12)
        request = Request(
            [prompts[item] for item in chosen], [rooms[item] for item in chosen], frozenset(), 0, None, 8192, choose
        )
        with torch.inference_mode():
            return generate_encoded(model, request)

    together = answers([0, 1, 2, 3, 4])
    assert [len(answer) for answer in together] == rooms
    assert together == [answers([item])[0] for item in range(5)]


def test_no_text_and_empty_texts(folder: Path) -> None:
    model = load_seq2seq(str(folder))
    assert rewrite(model, []) == []
    assert len(rewrite(model, ["", "a"])) == 2


def test_which_models_are_encoder_decoders(folder: Path, llama_folder: Path) -> None:
    assert is_seq2seq(str(folder))
    assert not is_seq2seq(str(llama_folder))


def test_models_of_many_languages_are_refused(tmp_path: Path) -> None:
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    config = M2M100Config(
        vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    M2M100ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="many languages"):
        load_seq2seq(str(tmp_path))


def test_a_torn_folder_is_told(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ModelError):
        load_seq2seq(str(tmp_path))
