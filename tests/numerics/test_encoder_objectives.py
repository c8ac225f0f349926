"""masked_lm and tag give transformers' own loss and gradients, packed, on encoders of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_bert, make_tokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForTokenClassification,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForTokenClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForTokenClassification,
)

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.errors import ModelError
from luthier.core.example import Example, Origin
from luthier.data.encode import Encoding, encode_all
from luthier.engine.step import accumulate
from luthier.functional.packing import pack
from luthier.models.export import reload, save_model
from luthier.models.load import load_model
from luthier.models.roles import Models, role_of

SIZES: dict[str, Any] = {"vocab_size": 400, "max_position_embeddings": 128, "pad_token_id": 0}
USUAL: dict[str, Any] = SIZES | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
SMALL: dict[str, Any] = SIZES | {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "bert": (BertConfig(**USUAL), BertForMaskedLM, BertForTokenClassification),
    "roberta": (RobertaConfig(**USUAL), RobertaForMaskedLM, RobertaForTokenClassification),
    "distilbert": (DistilBertConfig(**SMALL), DistilBertForMaskedLM, DistilBertForTokenClassification),
    "modernbert": (
        ModernBertConfig(**USUAL, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2),
        ModernBertForMaskedLM,
        ModernBertForTokenClassification,
    ),
}
TEXTS = (
    "The luthier keeps the plates thin and the varnish thinner.",
    "A violin remembers the hands that made it.",
    "Once upon a time there was a small wolf who could not howl, and the moon listened anyway.",
)
each = pytest.mark.parametrize("kind", KINDS)


def encoding(**more: Any) -> Encoding:
    tokenizer = make_tokenizer()
    tokenizer.mask_token = "<|endoftext|>"
    return Encoding(tokenizer, max_length=24, **more)


def texts() -> list[Example]:
    return [Example(f"t:{n}", {"text": text}, Origin("t", n), weight=1.0 + n) for n, text in enumerate(TEXTS)]


def tagged() -> list[Example]:
    found = []
    for number, text in enumerate(TEXTS):
        tags = tuple("B-NAME" if len(word) > 5 else "O" for word in text.split(" "))
        found.append(Example(f"g:{number}", {"tokens": text}, Origin("g", number), tags, weight=1.0 + number))
    return found


def theirs(model: Any, rows: list[Row]) -> tuple[float, dict[str, torch.Tensor]]:
    """The weighted mean by transformers' own loss: labels -100 where nothing is learned, a row at a time."""
    total, count = torch.zeros(()), 0.0
    for row in rows:
        labels = torch.from_numpy(np.where(row.supervised, row.targets, -100))
        output = model(input_ids=torch.from_numpy(row.ids)[None], labels=labels[None])
        counted = row.weight * int(row.supervised.sum())
        total, count = total + output.loss * counted, count + counted
    (total / count).backward()
    return (total / count).item(), taken(model)


def taken(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same(model: Any, objective: Any, rows: list[Row]) -> None:
    wanted, gradients = theirs(model, rows)
    step = accumulate(objective, (), Models(role_of(model, 0)), [pack(rows[:2]), pack(rows[2:])])
    assert step.loss == pytest.approx(wanted, rel=2e-6)
    found = taken(model)
    assert found.keys() == gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=4e-6 * largest, msg=name)


@each
@pytest.mark.parametrize("whole", [False, True], ids=["tokens", "words"])
def test_masked_lm_is_transformers_own_loss(kind: str, whole: bool) -> None:
    torch.manual_seed(0)
    config, maker, _ = KINDS[kind]
    objective: Any = build("objectives", {"masked_lm": {"whole_words": whole}})
    assert_same(maker(config).eval(), objective, encode_all(objective, texts(), encoding()))


@each
@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_tag_is_transformers_own_loss(kind: str, scheme: str) -> None:
    torch.manual_seed(0)
    config, _, maker = KINDS[kind]
    objective: Any = build("objectives", {"tag": {"scheme": scheme}})
    facts = objective.survey(tagged())
    config.num_labels = len(facts["classes"])
    assert_same(maker(config).eval(), objective, encode_all(objective, tagged(), encoding(facts=facts)))


@each
def test_encoders_are_packed(kind: str) -> None:
    """The tests above would pass padded as well, at a price."""
    config, masked, tagger = KINDS[kind]
    assert all(role_of(maker(config).eval(), 0).packed for maker in (masked, tagger))


def test_an_output_layer_that_is_not_the_last_is_refused() -> None:
    class Bent(BertForMaskedLM):  # type: ignore[misc]
        def forward(self, *arguments: Any, **options: Any) -> Any:
            output = super().forward(*arguments, **options)
            output.logits = output.logits * torch.arange(output.logits.shape[-1])
            return output

    model = Bent(BertConfig(**USUAL)).eval()
    from transformers import AutoModelForMaskedLM

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AutoModelForMaskedLM._model_mapping._extra_content, BertConfig, Bent)
        with pytest.raises(ModelError, match="more between its output layer and its logits"):
            role_of(model, 0)


@pytest.mark.parametrize("source", ["body", "classifier"])
def test_an_encoder_without_such_a_head_gets_one_tied_to_its_embedding(source: str, tmp_path: Path) -> None:
    body = BertModel(BertConfig(**USUAL)) if source == "body" else make_bert()
    body.save_pretrained(tmp_path / "body")
    make_tokenizer(template=None).save_pretrained(tmp_path / "body")
    loaded = load_model(str(tmp_path / "body"), "masked_lm", seed=3)
    assert any("transform.dense" in name for name in loaded.fresh)
    assert not any("embedding" in name for name in loaded.fresh)
    assert loaded.model.get_output_embeddings().weight is loaded.model.get_input_embeddings().weight
    again = load_model(str(tmp_path / "body"), "masked_lm", seed=3).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in loaded.model.state_dict().items())

    save_model(loaded.model, loaded.tokenizer, tmp_path / "saved")
    assert not reload(tmp_path / "saved", "masked_lm").fresh
    plain, info = BertForMaskedLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ids = torch.arange(5, 15)[None]
    torch.testing.assert_close(plain.eval()(ids).logits, loaded.model(ids).logits, rtol=0, atol=0)


def test_a_decoder_fills_no_masks(llama_folder: Path) -> None:
    with pytest.raises(ModelError, match="no masked lm model of type 'llama'"):
        load_model(str(llama_folder), "masked_lm")
