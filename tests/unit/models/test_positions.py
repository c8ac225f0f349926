"""How long a text a model takes: beside RoBERTa's positions and behind a trained prompt, in phases and in answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import class_recipe, label_records, lm_recipe, text_records, write_jsonl
from tiny import make_bert, make_llama, make_t5, make_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaForSequenceClassification

import luthier
from luthier.cli.talk import named
from luthier.core.component import build
from luthier.core.contracts import Adaptation, Row
from luthier.core.errors import RecipeError
from luthier.core.run import RunFolder
from luthier.evaluate.scores import read_scores
from luthier.functional.packing import pack
from luthier.models.generate import generate
from luthier.models.positions import text_positions
from luthier.models.prompt import text_room
from luthier.models.roles import Role, role_of


def make_gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()


def make_roberta(positions: int = 66) -> Any:
    """Its table has two rows that no text comes to: positions begin behind the padding token's number, 1."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = RobertaConfig(vocab_size=400, num_labels=3, max_position_embeddings=positions, pad_token_id=1, **sizes)
    torch.manual_seed(0)
    return RobertaForSequenceClassification(config).eval()


def prompted(model: Any, length: int) -> Any:
    adaptation = build("adaptations", {"prompt": {"length": length}})
    assert isinstance(adaptation, Adaptation)
    return adaptation.apply(model).eval()


def row(length: int) -> Row:
    return Row("r", np.arange(length) % 300 + 10, np.zeros(length, dtype=np.bool_))


@pytest.mark.parametrize(
    ("make", "wanted"),
    [(make_llama, 512), (make_bert, 128), (make_gpt2, 64), (make_roberta, 64), (make_t5, None)],
)
def test_positions_are_those_of_a_text(make: Any, wanted: int | None) -> None:
    assert text_positions(make()) == wanted
    assert text_room(make()) == wanted


@pytest.mark.parametrize("make", [make_gpt2, make_roberta, make_bert])
@pytest.mark.parametrize("length", [0, 10])
def test_a_text_of_that_length_goes_through_and_no_longer_one(make: Any, length: int) -> None:
    """Packed and padded; one token more has no position."""
    model = prompted(make(), length) if length else make()
    room = text_room(model)
    assert room is not None
    for role in (role_of(model, 1), Role(model, 1, None)):
        with torch.no_grad():
            assert role.hidden(pack([row(room), row(5)])).shape == (room + 5, 32)
            with pytest.raises(Exception, match=r"exceed the model|out of range|out of bounds|must match"):
                role.hidden(pack([row(room + 1)]))


def test_an_answer_ends_where_the_positions_behind_a_prompt_do() -> None:
    model = prompted(make_gpt2(), 10)
    answers = generate(model, [[5] * 20, [6] * 3], stop={399}, pad=0, max_new_tokens=40)
    assert [len(answer) for answer in answers] == [34, 40]
    with pytest.warns(UserWarning, match="the model takes 54 tokens"):
        (answer,) = generate(model, [[5] * 60], stop={399}, pad=0, max_new_tokens=10)
    assert len(answer) == 10


def test_rows_of_a_phase_fit_in_where_positions_begin_later(tmp_path: Path) -> None:
    """Texts longer than the model takes, and no max_length: they are cut to what it does take."""
    make_roberta().save_pretrained(tmp_path / "roberta")
    make_tokenizer(template=None).save_pretrained(tmp_path / "roberta")
    records = label_records(24)
    for record in records:
        record["text"] += " indeed" * 90
    recipe = class_recipe(tmp_path / "roberta", write_jsonl(tmp_path / "rows.jsonl", records), steps=1)
    del recipe["phases"][0]["max_length"]
    done = luthier.run(recipe, out=tmp_path / "run")
    assert named(done.folder, records[0]["text"]).count("%") == 3
    recipe["phases"][0]["max_length"] = 65
    with pytest.raises(RecipeError, match="max_length is 65, and the model takes 64 tokens"):
        luthier.run(recipe, out=tmp_path / "long")


def test_rows_of_a_phase_leave_room_for_its_prompt(tmp_path: Path) -> None:
    """Base and tuned are measured on the same tokens, though the base has no prompt before them."""
    make_llama(max_position_embeddings=64).save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    records = text_records(12)
    for record in records:
        record["text"] *= 4
    adaptation: dict[str, Any] = {"prompt": {"length": 10}}
    recipe = lm_recipe(
        tmp_path / "model",
        write_jsonl(tmp_path / "rows.jsonl", records),
        adaptation=adaptation,
        steps=1,
        checks=["perplexity"],
    )
    del recipe["phases"][0]["max_length"]
    done = luthier.run(recipe, out=tmp_path / "run")
    scores = RunFolder(done.folder).scores
    base, tuned = (
        read_scores(scores, "perplexity", name).values["log_probability"][:, 1] for name in ("base", "tuned")
    )
    assert base.tolist() == tuned.tolist()
    for told, says in (({"max_length": 55}, "takes 54 tokens behind the 10 of its prompt"), ({}, "which leaves none")):
        adaptation["prompt"]["length"] = 10 if told else 63
        recipe["phases"][0] |= told
        with pytest.raises(RecipeError, match=says):
            luthier.run(recipe, out=tmp_path / f"refused-{len(told)}")
        recipe["phases"][0].pop("max_length", None)
