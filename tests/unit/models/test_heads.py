"""Head, blocks and embeddings of the families that are used most, against their names in transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import make_t5
from torch import nn

from luthier.core.errors import ModelError
from luthier.models.groups import depths
from luthier.models.heads import embedding_parameters, head_parameters, layers

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "pad_token_id": 0,
}


def build(kind: str) -> nn.Module:
    import transformers as t

    torch.manual_seed(0)
    grouped = SMALL | {"num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": 1}
    gpt2 = {"vocab_size": 60, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32, "eos_token_id": 1}
    distil = {"vocab_size": 60, "dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2, "pad_token_id": 0}
    modern = SMALL | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    mixtral = grouped | {"num_local_experts": 8, "num_experts_per_tok": 2}
    made = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**grouped, tie_word_embeddings=True)),
        "llama-untied": lambda: t.LlamaForCausalLM(t.LlamaConfig(**grouped, tie_word_embeddings=False)),
        "llama-classifier": lambda: t.LlamaForSequenceClassification(t.LlamaConfig(**grouped)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**grouped, tie_word_embeddings=True)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**grouped, head_dim=8, tie_word_embeddings=False)),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**mixtral)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**gpt2, bos_token_id=1)),
        "bert": lambda: t.BertForSequenceClassification(t.BertConfig(**SMALL)),
        "roberta": lambda: t.RobertaForSequenceClassification(t.RobertaConfig(**SMALL)),
        "distilbert": lambda: t.DistilBertForSequenceClassification(t.DistilBertConfig(**distil)),
        "modernbert": lambda: t.ModernBertForSequenceClassification(t.ModernBertConfig(**modern)),
    }
    return made[kind]()


EXPECTED = {
    # blocks, head modules, embedding modules
    "llama": ("model.layers", set(), {"model.embed_tokens"}),
    "llama-untied": ("model.layers", {"lm_head"}, {"model.embed_tokens"}),
    "llama-classifier": ("model.layers", {"score"}, {"model.embed_tokens"}),
    "qwen2": ("model.layers", set(), {"model.embed_tokens"}),
    "qwen3": ("model.layers", {"lm_head"}, {"model.embed_tokens"}),
    "mixtral": ("model.layers", {"lm_head"}, {"model.embed_tokens"}),
    "gpt2": ("transformer.h", set(), {"transformer.wte", "transformer.wpe"}),
    "bert": ("bert.encoder.layer", {"bert.pooler", "classifier"}, {"bert.embeddings"}),
    "roberta": ("roberta.encoder.layer", {"classifier"}, {"roberta.embeddings"}),
    "distilbert": ("distilbert.transformer.layer", {"pre_classifier", "classifier"}, {"distilbert.embeddings"}),
    "modernbert": ("model.layers", {"head", "classifier"}, {"model.embeddings"}),
}


def under(model: nn.Module, modules: set[str]) -> set[str]:
    return {name for name, _ in model.named_parameters() if any(name.startswith(module + ".") for module in modules)}


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_parts_of_a_model(kind: str) -> None:
    model = build(kind)
    blocks, head, embeddings = EXPECTED[kind]
    assert [name for name, _ in layers(model)] == [f"{blocks}.{index}" for index in range(3)]
    assert dict(model.named_modules())[f"{blocks}.2"] is layers(model)[2][1]
    assert set(head_parameters(model)) == under(model, head)
    assert set(embedding_parameters(model)) == under(model, embeddings)


@pytest.mark.parametrize("kind", ["llama-classifier", "bert", "gpt2"])
def test_parts_of_a_model_under_peft(kind: str) -> None:
    from peft import LoraConfig, get_peft_model

    model = build(kind)
    blocks, head, embeddings = EXPECTED[kind]
    saved = sorted({name.rpartition(".")[2] for name in head}) or None
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", modules_to_save=saved))
    assert [name for name, _ in layers(wrapped)] == [f"base_model.model.{blocks}.{index}" for index in range(3)]
    found = head_parameters(wrapped)
    assert not any("original_module" in name for name in found)
    plainly = {name.removeprefix("base_model.model.").replace("modules_to_save.default.", "") for name in found}
    assert plainly == under(build(kind), head)
    assert {n.removeprefix("base_model.model.") for n in embedding_parameters(wrapped)} == under(
        build(kind), embeddings
    )


def test_an_encoders_blocks_come_before_its_decoders() -> None:
    """What closes the encoder is as deep as its last block, so that it does not learn with the decoder's top alone."""
    model = make_t5()
    names = [f"{side}.block.{number}" for side in ("encoder", "decoder") for number in range(2)]
    assert [name for name, _ in layers(model)] == names
    assert (embedding_parameters(model), head_parameters(model)) == (["shared.weight"], [])
    depth = depths(model)
    assert [depth[f"{name}.layer.0.SelfAttention.q.weight"] for name in names] == [1, 2, 3, 4]
    tops = {name: number for name, number in depth.items() if name.endswith("final_layer_norm.weight")}
    assert tops == {"encoder.final_layer_norm.weight": 2, "decoder.final_layer_norm.weight": 5}
    assert depth["shared.weight"] == 0


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="no list of blocks"):
        layers(nn.Sequential(nn.Linear(2, 2)))
