"""head, bitfit, lora and bottleneck: what trains, and what is refused with which words."""

from __future__ import annotations

import json
import warnings

import pytest
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from luthier.core.component import build
from luthier.core.errors import ModelError


def trained(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=64))


def roberta():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return RobertaForSequenceClassification(RobertaConfig(vocab_size=50, num_labels=3, **sizes))


def distilbert():
    return DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=50, dim=32, hidden_dim=64, n_layers=2, n_heads=4, num_labels=3)
    )


def modernbert():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return ModernBertForSequenceClassification(
        ModernBertConfig(vocab_size=50, num_labels=3, pad_token_id=0, cls_token_id=1, sep_token_id=2, **sizes)
    )


def untied(llama):
    return LlamaForCausalLM(type(llama.config)(**(llama.config.to_dict() | {"tie_word_embeddings": False})))


# ---- head ------------------------------------------------------------------------------------------------------------


def test_head_trains_the_head_alone(bert, llama) -> None:
    names = trained(build("adaptations", "head").apply(bert))
    assert names == {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert trained(build("adaptations", "head").apply(untied(llama))) == {"lm_head.weight"}


def test_head_refuses_a_tied_output_layer(llama) -> None:
    with pytest.raises(ModelError, match="tied to its embeddings") as caught:
        build("adaptations", "head").apply(llama)
    assert "lora" in (caught.value.problems[0].remedy or "")


# ---- bitfit ----------------------------------------------------------------------------------------------------------


def test_bitfit_trains_every_bias_and_the_head(bert) -> None:
    names = trained(build("adaptations", "bitfit").apply(bert))
    assert {"bert.encoder.layer.0.attention.self.key.bias", "bert.embeddings.LayerNorm.bias"} <= names
    assert {name for name in names if not name.endswith(".bias")} == {"classifier.weight", "bert.pooler.dense.weight"}
    assert {name for name, _ in bert.named_parameters() if name.endswith(".bias")} <= names


def test_bitfit_refuses_a_model_without_biases(llama) -> None:
    with pytest.raises(ModelError, match="has no biases") as caught:
        build("adaptations", "bitfit").apply(llama)
    assert "lora" in (caught.value.problems[0].remedy or "")


# ---- lora ------------------------------------------------------------------------------------------------------------


def adapted_layers(model) -> set[str]:
    return {
        name.removeprefix("base_model.model.") for name, module in model.named_modules() if hasattr(module, "lora_A")
    }


@pytest.mark.parametrize("make", [gpt2, roberta, distilbert, modernbert])
def test_all_linear_is_every_linear_layer_but_the_head(make) -> None:
    from peft import LoraConfig, get_peft_model

    model = build("adaptations", {"lora": {"rank": 2}}).apply(make())
    task = "CAUSAL_LM" if make is gpt2 else "SEQ_CLS"
    heads = {distilbert: ["pre_classifier", "classifier"], modernbert: ["head", "classifier"], roberta: ["classifier"]}
    theirs = get_peft_model(
        make(), LoraConfig(r=2, target_modules="all-linear", task_type=task, modules_to_save=heads.get(make))
    )
    assert adapted_layers(model) == adapted_layers(theirs)
    assert trained(model) == trained(theirs)


def test_gpt2_keeps_its_transposed_weights_and_merges() -> None:
    import torch

    base = gpt2().eval()
    adaptation = build("adaptations", {"lora": {"rank": 2}})
    ids = torch.arange(20).reshape(2, 10)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="fan_in_fan_out")
        model = adaptation.apply(base)
    for module in model.modules():
        if hasattr(module, "lora_B"):
            torch.nn.init.normal_(module.lora_B["default"].weight, std=0.1)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        torch.testing.assert_close(adaptation.merge(model)(input_ids=ids).logits, before, rtol=1e-5, atol=1e-5)


def test_targets_and_layers_narrow_it(llama) -> None:
    model = build("adaptations", {"lora": {"targets": ["q_proj", "mlp.up_proj"], "layers": [-1]}}).apply(llama)
    assert adapted_layers(model) == {"model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"}


def test_names_that_are_alike_in_all_layers_are_written_short(llama) -> None:
    model = build("adaptations", "lora").apply(llama)
    assert set(model.peft_config["default"].target_modules) == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"targets": ["q_porj"]}, "did you mean 'q_proj'"),
        ({"targets": ["q_proj", "query"]}, "down_proj, gate_proj, k_proj"),
        ({"targets": ["embed_tokens"]}, "no linear layer"),
        ({"targets": ["lm_head"]}, "tied to the embeddings"),
        ({"layers": [2]}, "numbers from -2 to 1"),
    ],
)
def test_lora_says_what_exists(llama, parameters, message) -> None:
    with pytest.raises(ModelError, match=message):
        build("adaptations", {"lora": parameters}).apply(llama)


def test_an_untied_output_layer_can_be_a_target(llama) -> None:
    model = build("adaptations", {"lora": {"targets": ["lm_head"]}}).apply(untied(llama))
    assert adapted_layers(model) == {"lm_head"}


def test_two_adapters_at_once_are_refused(llama) -> None:
    model = build("adaptations", "lora").apply(llama)
    with pytest.raises(ModelError, match="already carries"):
        build("adaptations", "lora").apply(model)


def test_an_adapter_of_another_scale_is_refused(llama, tmp_path) -> None:
    build("adaptations", {"lora": {"rank": 4}}).save(
        model := build("adaptations", {"lora": {"rank": 4}}).apply(llama), tmp_path
    )
    other = build("adaptations", {"lora": {"rank": 4, "alpha": 16.0}})
    with pytest.raises(ModelError, match="trained with alpha 8, not 16"):
        other.load(other.apply(build("adaptations", "lora").merge(model)), tmp_path)


def test_the_file_of_the_configuration_names_no_module_twice(bert, tmp_path) -> None:
    adaptation = build("adaptations", "lora")
    adaptation.save(adaptation.apply(bert), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert len(set(config["modules_to_save"])) == len(config["modules_to_save"])
    assert config["task_type"] == "SEQ_CLS"


# ---- bottleneck ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "attention", "forward"),
    [
        (None, "self_attn.o_proj", "mlp.down_proj"),
        (gpt2, "attn.c_proj", "mlp.c_proj"),
        (roberta, "attention.output.dense", "output.dense"),
        (distilbert, "attention.out_lin", "ffn.lin2"),
        (modernbert, "attn.Wo", "mlp.Wo"),
    ],
)
def test_bottlenecks_sit_where_the_block_writes_into_the_residual(llama, make, attention, forward) -> None:
    for placement, wanted in (("pfeiffer", {forward}), ("houlsby", {attention, forward})):
        given = make() if make else type(llama)(llama.config)
        keys = set(given.state_dict())
        model = build("adaptations", {"bottleneck": {"placement": placement, "reduction": 8}}).apply(given)
        holders = [name for name, module in model.named_modules() if hasattr(module, "bottleneck")]
        assert len(holders) == 2 * len(wanted)
        assert all(any(name.endswith("." + end) for end in wanted) for name in holders)
        assert keys <= set(model.state_dict())
        assert {module.bottleneck.down.out_features for module in model.modules() if hasattr(module, "bottleneck")} == {
            4
        }


def test_bottleneck_refuses_experts_and_a_second_time(llama) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    moe = MixtralForCausalLM(MixtralConfig(vocab_size=50, num_key_value_heads=2, num_local_experts=2, **sizes))
    with pytest.raises(ModelError, match="mixture of experts"):
        build("adaptations", "bottleneck").apply(moe)
    adaptation = build("adaptations", "bottleneck")
    with pytest.raises(ModelError, match="already carries bottlenecks"):
        adaptation.apply(adaptation.apply(llama))


def test_another_activation_is_refused_on_loading(bert, tmp_path) -> None:
    adaptation = build("adaptations", {"bottleneck": {"activation": "gelu"}})
    model = adaptation.apply(bert)
    adaptation.save(model, tmp_path)
    with pytest.raises(ModelError, match="activation gelu, not relu"):
        build("adaptations", "bottleneck").load(model, tmp_path)
