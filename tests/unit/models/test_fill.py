"""Words in a gap are those of transformers' own masked model, and a model without a head is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from masked import VOCABULARY, masked_folder

from luthier.core.contracts import Row
from luthier.core.errors import ModelError
from luthier.models.fill import load_filler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return masked_folder(tmp_path_factory.mktemp("masked"))


def test_words_and_probabilities_are_those_of_transformers(folder: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    gaps = [("the small ", " sang"), ("", " moon listened to the wolf"), ("a wolf and a ", "")]
    found = load_filler(str(folder)).words(gaps, 5)
    for (before, after), candidates in zip(gaps, found, strict=True):
        ids = tokenizer(f"{before}[MASK]{after}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            chances = model(input_ids=ids).logits[0, ids[0].tolist().index(tokenizer.mask_token_id)].softmax(-1)
        whole = {word: float(chances[number]) for word, number in tokenizer.get_vocab().items() if word.isalpha()}
        wanted = sorted(whole.items(), key=lambda pair: -pair[1])[:5]
        assert [word for word, _ in candidates] == [word for word, _ in wanted]
        assert [chance for _, chance in candidates] == pytest.approx([chance for _, chance in wanted], rel=1e-4)


def test_marks_pieces_and_control_tokens_are_no_words(folder: Path) -> None:
    (candidates,) = load_filler(str(folder)).words([("the ", " sang")], len(VOCABULARY))
    assert sorted(word for word, _ in candidates) == sorted(word for word in VOCABULARY if word.isalpha())
    assert sum(chance for _, chance in candidates) < 1


def test_a_mask_that_a_text_spells_is_letters(folder: Path) -> None:
    filler = load_filler(str(folder))
    ids, place = filler._tokens("the [MASK] and the ", " sang")
    assert (ids == filler.tokenizer.mask_token_id).sum() == 1
    assert ids[place] == filler.tokenizer.mask_token_id


def test_of_a_long_text_what_stands_near_is_read(folder: Path) -> None:
    filler = load_filler(str(folder))
    for before, after in (("wolf " * 100, " sang" * 100), ("wolf " * 100, " sang"), ("wolf ", " sang" * 100)):
        ids, place = filler._tokens(before, after)
        assert len(ids) == filler.max_length == 32
        assert ids[place] == filler.tokenizer.mask_token_id
        assert 1 < place < len(ids) - 2


def test_a_model_without_a_head_for_words_is_refused(bert_folder: Path) -> None:
    with pytest.raises(ModelError, match="no output layer for masked words yet"):
        load_filler(str(bert_folder))


def test_other_models_have_no_mask_logits(llama_folder: Path) -> None:
    import numpy as np

    from luthier.functional.packing import pack
    from luthier.models.load import load_model
    from luthier.models.roles import role_of

    role = role_of(load_model(str(llama_folder), "causal_lm").model, 0)
    batch = pack([Row("1", np.array([5, 6, 7]), np.array([False, True, False]))])
    with pytest.raises(ModelError, match="no masked language model"):
        role.mask_logits(batch)
