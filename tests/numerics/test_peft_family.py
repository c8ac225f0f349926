"""Every method that `peft` offers, on a tiny Llama and a tiny BERT: nothing at first, its own files, folded in."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from numerics.test_adaptations import log_probabilities, train
from peft import PeftModel
from tiny import make_llama
from transformers import GPT2Config, GPT2LMHeadModel

from luthier.adaptations.peft import REFUSED, Method
from luthier.core.component import build
from luthier.core.errors import ModelError, RecipeError
from luthier.models.cast import cast
from luthier.models.load import load_model

SMALL = {
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 16},
    "fourierft": {"n_frequency": 50},
    "oft": {"oft_block_size": 8},
    "shira": {"r": 4},
    "vera": {"r": 16},
}
"""Settings for matrices of 16 to 64 rows."""


def peft(method: str, **parameters: object):
    return build("adaptations", {"peft": {"method": method, "settings": SMALL.get(method, {}), **parameters}})


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("method", get_args(Method))
def test_a_method_of_peft_lives(request, kind: str, method: str, tmp_path: Path) -> None:
    """Step 0 is the base in float32 and bfloat16; every trained tensor moves, and no other; saved, loaded, merged."""
    base = request.getfixturevalue(kind)
    adaptation, fresh, before = peft(method), copy.deepcopy(base), log_probabilities(base)
    half = cast(copy.deepcopy(base), torch.bfloat16)
    wanted = log_probabilities(half)
    assert torch.equal(log_probabilities(adaptation.apply(half).eval()), wanted)

    torch.manual_seed(1)
    model = adaptation.apply(base)
    assert torch.equal(log_probabilities(model.eval()), before)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(adaptation, model.train(), lr=1e-2)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    tuned = log_probabilities(model.eval())

    adaptation.save(model, tmp_path)
    torch.manual_seed(2)
    again = adaptation.apply(copy.deepcopy(fresh)).eval()
    adaptation.load(again, tmp_path)
    assert torch.equal(log_probabilities(again), tuned)
    theirs = PeftModel.from_pretrained(copy.deepcopy(fresh), str(tmp_path)).eval()
    torch.testing.assert_close(log_probabilities(theirs), tuned, rtol=0, atol=1e-6)

    merged = adaptation.merge(model)
    torch.testing.assert_close(log_probabilities(merged), tuned, rtol=0, atol=5e-6)
    shapes = {name: p.shape for name, p in fresh.named_parameters()}
    assert {name: p.shape for name, p in merged.named_parameters()} == shapes


@pytest.mark.parametrize("method", ["ia3", "vera"])
def test_matrices_that_lie_transposed_are_adapted_too_or_refused(method: str) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()
    with pytest.raises(ModelError, match="PEFT cannot put oft into this model"):
        peft("oft").apply(copy.deepcopy(model))
    before = log_probabilities(model)
    adaptation = peft(method)
    adapted = adaptation.apply(model)
    torch.testing.assert_close(log_probabilities(adapted.eval()), before, rtol=0, atol=1e-6)
    train(adaptation, adapted)
    tuned = log_probabilities(adapted.eval())
    torch.testing.assert_close(log_probabilities(adaptation.merge(adapted)), tuned, rtol=0, atol=5e-6)


def test_ia3_scales_keys_values_and_what_enters_the_last_feed_forward_layer(llama) -> None:
    model = peft("ia3").apply(llama)
    found = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    ends = {name.rpartition(".ia3_l")[0].rpartition(".")[2]: tuple(shape) for name, shape in found.items()}
    inner, keys = llama.config.intermediate_size, llama.model.layers[0].self_attn.k_proj.base_layer.out_features
    assert ends == {"k_proj": (keys, 1), "v_proj": (keys, 1), "down_proj": (1, inner)}


def test_layers_and_targets_are_chosen_as_for_lora(llama) -> None:
    model = peft("loha", targets=["q_proj"], layers=[-1]).apply(llama)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names
    assert all("layers.1.self_attn.q_proj" in name for name in names)
    with pytest.raises(ModelError, match="no linear layer of the model is called 'q_prod'"):
        peft("loha", targets=["q_prod"]).apply(llama)


@pytest.mark.parametrize("method", sorted(REFUSED))
def test_what_cannot_be_had_is_refused_with_its_reason(method: str) -> None:
    with pytest.raises(RecipeError, match=f"{method} cannot be had here: "):
        peft(method)


def test_settings_are_checked(llama) -> None:
    with pytest.raises(ModelError, match="loha has no setting 'rank' to choose") as caught:
        peft("loha", settings={"rank": 4}).apply(llama)
    assert "module_dropout" in str(caught.value)
    with pytest.raises(ModelError, match="PEFT"):
        peft("oft", settings={"r": 3, "oft_block_size": 7}).apply(llama)
    with pytest.raises(ModelError, match="no setting 'init_weights'"):
        peft("c3a", settings={"init_weights": False}).apply(llama)


def test_a_file_of_other_settings_is_refused(llama, tmp_path: Path) -> None:
    adaptation = peft("lokr", settings={"r": 4, "alpha": 16})
    model = adaptation.apply(llama)
    adaptation.save(model, tmp_path)
    with pytest.raises(ModelError, match="trained with alpha 16, not 4"):
        peft("lokr", settings={"r": 4, "alpha": 4}).load(
            peft("lokr", settings={"r": 4, "alpha": 4}).apply(adaptation.merge(model)), tmp_path
        )
    plain = peft("lokr", settings={"r": 4})
    model = plain.apply(make_llama())
    with pytest.raises(ModelError, match="trained with alpha 16, not 8") as caught:
        plain.load(model, tmp_path)
    assert caught.value.problems[0].remedy == "set alpha: 16"


def test_a_folder_of_such_an_adapter_is_a_model_to_start_from(llama_folder: Path, tmp_path: Path) -> None:
    adaptation = peft("loha")
    model = adaptation.apply(load_model(str(llama_folder), "causal_lm").model)
    train(adaptation, model, lr=1e-2)
    adaptation.save(model, tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(llama_folder)}))
    state = torch.get_rng_state()
    found = load_model(str(tmp_path), "causal_lm").model
    assert torch.equal(torch.get_rng_state(), state), "what PEFT draws for a new adapter is nobody else's"
    torch.testing.assert_close(log_probabilities(found), log_probabilities(model.eval()), rtol=0, atol=5e-6)
