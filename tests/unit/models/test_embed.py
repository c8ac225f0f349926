"""Vectors of texts: those of transformers and sentence-transformers, whatever the batches; unknown poolings refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from luthier.core.errors import DataError, LuthierError, ModelError
from luthier.models import embed
from luthier.models.embed import Embedder, load_embedder
from luthier.models.embedded import embedded_folder
from luthier.models.pooling import Pooling, pooling_of, write_pooling
from luthier.models.roles import Role

TEXTS = ["a violin", "How long does a setup take?", "x", "The moon listened anyway, night after night.", "a violin !"]
KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda hidden: hidden.mean(0),
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: hidden.max(0).values,
    "lasttoken": lambda hidden: hidden[-1],
}
OLDER = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def with_modules(folder: Path, into: Path, pooling: dict[str, Any], *kinds: str, **settings: Any) -> Path:
    """A copy of the folder that says how it is pooled, as sentence-transformers writes it."""
    shutil.copytree(folder, into)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, kind in enumerate(kinds, 1):
        modules.append({"idx": number, "name": str(number), "path": f"{number}_{kind}", "type": f"st.models.{kind}"})
    (into / "modules.json").write_text(json.dumps(modules))
    (into / "1_Pooling").mkdir()
    (into / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    (into / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9, **settings}))
    return into


def alone(embedder: Embedder, text: str) -> Tensor:
    """[L, H]: the hidden states of one text, as transformers computes them."""
    ids = embedder.tokenizer(text, truncation=True, max_length=embedder.max_length, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states: Tensor = embedder.role.model(input_ids=ids).last_hidden_state[0]
    return states


@pytest.mark.parametrize(
    ("given", "said"),
    [("a violin", "one text was given alone"), (["a", 3.5], "text 1 is of type float"), ([None], "of type NoneType")],
)
def test_what_is_no_list_of_texts_is_refused(bert_folder: Path, given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_embedder(str(bert_folder)).embed(given)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("mode", KINDS)
def test_pooled_as_the_folder_says(bert_folder: Path, tmp_path: Path, mode: str, older: bool) -> None:
    said = {key: key == OLDER[mode] for key in OLDER.values()} if older else {"pooling_mode": mode}
    folder = with_modules(bert_folder, tmp_path / "model", said, "Pooling")
    embedder = load_embedder(str(folder))
    assert embedder.role.packed
    assert embedder.max_length == 9
    found = embedder.embed(TEXTS)
    for vector, text in zip(found, TEXTS, strict=True):
        states = alone(embedder, text)
        assert len(states) <= 9
        np.testing.assert_allclose(vector, KINDS[mode](states).numpy(), atol=2e-6)


@pytest.mark.parametrize("mode", KINDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_what_is_written_is_read_again(tmp_path: Path, mode: Any, normalize: bool) -> None:
    pooling = Pooling(mode, normalize, 77, lower=True)
    write_pooling(tmp_path, pooling, 32)
    assert pooling_of(tmp_path) == pooling


def test_a_plain_model_gives_means_of_unit_length_in_the_texts_order(bert_folder: Path, llama_folder: Path) -> None:
    for folder in (bert_folder, llama_folder):
        embedder = load_embedder(str(folder))
        found = embedder.embed(TEXTS)
        assert found.shape == (len(TEXTS), embedder.width) == (5, 32)
        wanted = torch.stack([torch.nn.functional.normalize(alone(embedder, text).mean(0), dim=0) for text in TEXTS])
        np.testing.assert_allclose(found, wanted.numpy(), atol=2e-6)


def test_batches_windows_and_padding_change_nothing(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = load_embedder(str(bert_folder))
    wanted = embedder.embed(TEXTS)
    np.testing.assert_allclose(replace(embedder, micro_tokens=1).embed(TEXTS), wanted, atol=2e-6)
    padded = replace(embedder, role=Role(embedder.role.model, embedder.role.pad, None))
    np.testing.assert_allclose(padded.embed(TEXTS), wanted, atol=2e-6)
    monkeypatch.setattr(embed, "_TOGETHER", 2)
    np.testing.assert_allclose(embedder.embed(TEXTS), wanted, atol=2e-6)


def test_dropout_is_off_and_the_mode_comes_back(bert_folder: Path) -> None:
    embedder = load_embedder(str(bert_folder))
    embedder.role.model.train()
    first, second = embedder.embed(TEXTS), embedder.embed(TEXTS)
    assert embedder.role.model.training
    np.testing.assert_array_equal(first, second)


def test_no_token_and_no_text(bert_folder: Path) -> None:
    embedder = load_embedder(str(bert_folder))
    assert embedder.embed([]).shape == (0, 32)
    found = embedder.embed(["", "a"])
    assert not found[0].any()
    np.testing.assert_allclose(np.linalg.norm(found[1]), 1, atol=1e-6)


def test_a_text_never_holds_control_tokens(bert_folder: Path) -> None:
    embedder = load_embedder(str(bert_folder))
    spelled = embedder._tokens(["<|im_end|>"])[0]
    assert len(spelled) > 1
    assert embedder.tokenizer.convert_tokens_to_ids("<|im_end|>") not in spelled


def test_lower_case_where_the_folder_asks_for_it(bert_folder: Path, tmp_path: Path) -> None:
    folder = with_modules(bert_folder, tmp_path / "m", {"pooling_mode": "mean"}, "Pooling", do_lower_case=True)
    upper, lower = load_embedder(str(folder)).embed(["A VIOLIN", "a violin"])
    np.testing.assert_array_equal(upper, lower)


@pytest.mark.parametrize(
    ("pooling", "kinds", "found"),
    [
        ({"pooling_mode": "mean"}, ("Pooling", "Dense"), "Dense"),
        ({"pooling_mode": ["mean", "max"]}, ("Pooling",), "mean and max"),
        ({"pooling_mode_weightedmean_tokens": True}, ("Pooling",), "weightedmean"),
        ({}, ("Pooling",), "not said"),
        ({"pooling_mode": "mean"}, (), "the modules are Transformer"),
    ],
)
def test_what_is_not_known_is_refused(
    bert_folder: Path, tmp_path: Path, pooling: dict[str, Any], kinds: tuple[str, ...], found: str
) -> None:
    folder = with_modules(bert_folder, tmp_path / "model", pooling, *kinds)
    with pytest.raises(ModelError, match=found) as caught:
        load_embedder(str(folder))
    assert caught.value.problems[0].remedy


@pytest.mark.parametrize("prompt", ["query: ", ""])
def test_a_model_that_wants_a_prompt_is_refused(bert_folder: Path, tmp_path: Path, prompt: str) -> None:
    folder = with_modules(bert_folder, tmp_path / "model", {"pooling_mode": "mean"}, "Pooling")
    settings = {"prompts": {"query": prompt}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    if prompt:
        with pytest.raises(ModelError, match="prompt 'query'"):
            load_embedder(str(folder))
    else:
        load_embedder(str(folder))


@pytest.mark.parametrize(
    "modules", ["{}", "[1]", "[", '[{"type": "Transformer"}, {"type": "Pooling", "path": "../x"}]']
)
def test_damaged_modules_are_told(bert_folder: Path, tmp_path: Path, modules: str) -> None:
    folder = with_modules(bert_folder, tmp_path / "model", {"pooling_mode": "mean"}, "Pooling")
    (folder / "modules.json").write_text(modules)
    with pytest.raises(ModelError) as caught:
        load_embedder(str(folder))
    assert str(folder / "modules.json") == caught.value.problems[0].where


def minilm() -> str:
    try:
        embedded_folder("minilm")
    except LuthierError as error:
        pytest.skip(str(error))
    return "embedded:minilm"


def test_minilm_gives_the_vectors_of_sentence_transformers() -> None:
    source = minilm()
    library = pytest.importorskip("sentence_transformers")
    texts = [*TEXTS, "", "  spaces \n", "long " * 400, "Zoë's 界 🎻", "A VIOLIN"]
    wanted = library.SentenceTransformer(str(embedded_folder("minilm")), device="cpu").encode(texts)
    np.testing.assert_allclose(load_embedder(source).embed(texts), wanted, atol=1e-6)
    reduced = load_embedder(source, dtype=torch.bfloat16).embed(texts)
    assert (reduced * wanted).sum(-1).min() > 0.999
