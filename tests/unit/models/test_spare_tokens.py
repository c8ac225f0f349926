"""Special tokens that a tokenizer has and its model has no row for: allowed where nothing leads to them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_llama, make_tokenizer

from luthier.core.contracts import Row
from luthier.core.errors import ModelError
from luthier.functional.packing import pack
from luthier.models.generate import generate
from luthier.models.load import check_source, load_model
from luthier.models.roles import role_of
from luthier.models.vocabulary import grow


@pytest.fixture
def with_spare(tmp_path: Path) -> Path:
    """A model of 400 rows whose tokenizer has a special token with the id 400, as Gemma 3 1B has one for images."""
    make_llama().save_pretrained(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    assert tokenizer.convert_tokens_to_ids("<image>") == 400
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_special_token_that_nothing_leads_to_needs_no_row(with_spare: Path) -> None:
    assert check_source(str(with_spare)) == []
    loaded = load_model(str(with_spare), "causal_lm")
    assert generate(loaded.model, [[5, 17]], stop={2}, pad=0, max_new_tokens=2)
    for ids in ([5, 400], [400, 7]):
        with pytest.raises(ModelError, match="id 400 is used, and the embedding has 400 rows"):
            generate(loaded.model, [[5, 17], ids], stop={2}, pad=0, max_new_tokens=2)
        with pytest.raises(ModelError, match="id 400 is used"):
            role_of(loaded.model, 0).logps(pack([Row("a", np.array(ids), np.array([False, True]))]))


def test_one_that_the_template_writes_or_that_ends_a_text_needs_one(with_spare: Path) -> None:
    file = with_spare / "chat_template.jinja"
    text = file.read_text()
    file.write_text(text + "<image>")
    with pytest.raises(ModelError, match="ids up to 400, and the embedding has 400 rows"):
        load_model(str(with_spare), "causal_lm")
    file.write_text(text)
    settings = with_spare / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"eos_token": "<image>"}))
    with pytest.raises(ModelError, match="ids up to 400, and the embedding has 400 rows"):
        load_model(str(with_spare), "causal_lm")


def test_new_tokens_come_after_it_and_nothing_is_random(with_spare: Path) -> None:
    tables = []
    for _ in range(2):
        loaded = load_model(str(with_spare), "causal_lm")
        assert grow(loaded.model, loaded.tokenizer, ["<f-hole>"]).first == 401
        tables.append(loaded.model.get_input_embeddings().weight)
    assert len(tables[0]) == 402
    torch.testing.assert_close(tables[0][400], tables[0][:400].mean(0))
    assert torch.equal(*tables)
