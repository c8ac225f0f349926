"""Prefixes: their equation, in packs, padding and caches alike, and beside a base that stays what it is."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from numerics.test_adaptations import log_probabilities, train
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

from luthier.core.component import build
from luthier.core.errors import ModelError, RecipeError
from luthier.core.recipe import Recipe
from luthier.functional.prefix import Prefix
from luthier.models import generate as generating
from luthier.models.generate import generate


def prefix(**parameters: object):
    return build("adaptations", {"prefix": parameters})


def test_a_prefix_is_its_equation() -> None:
    """Four query heads over two heads of keys, each query by itself, in float64."""
    torch.manual_seed(0)
    module = Prefix(3, 4, 2, 6, 5).double()
    module.gates.data = torch.tensor([0.3, -0.2, 0.0, 2.0], dtype=torch.float64)
    query = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    found = module(query, 0.4)
    assert found.shape == (2, 7, 4, 5)
    for row, head, place in ((0, 0, 0), (1, 1, 6), (0, 2, 3), (1, 3, 2)):
        scores = module.keys[head // 2] @ query[row, head, place] * 0.4
        wanted = torch.tanh(module.gates[head]) * (scores.softmax(0) @ module.values[head // 2])
        torch.testing.assert_close(found[row, place, head], wanted)
    torch.testing.assert_close(module(query, None), module(query, 6**-0.5))


@pytest.fixture(params=["llama", "bert", "gpt2"])
def base(request):
    if request.param == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()
    return request.getfixturevalue(request.param)


def test_life_of_a_prefix(base, tmp_path: Path) -> None:
    adaptation, fresh, before = prefix(length=4), copy.deepcopy(base), log_probabilities(base)
    model = adaptation.apply(base)
    assert torch.equal(log_probabilities(model.eval()), before), "gates are closed at first"
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(adaptation, model.train(), lr=1e-2)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    tuned = log_probabilities(model.eval())
    assert not torch.equal(tuned, before)
    torch.testing.assert_close(log_probabilities(copy.deepcopy(model)), tuned, rtol=0, atol=0)
    adaptation.save(model, tmp_path)
    again = adaptation.apply(fresh).eval()
    adaptation.load(again, tmp_path)
    assert torch.equal(log_probabilities(again), tuned)
    with pytest.raises(ModelError, match="another shape"):
        prefix(length=5).load(prefix(length=5).apply(_without(again)), tmp_path)
    with pytest.raises(ModelError, match="cannot be folded"):
        adaptation.merge(model)
    with pytest.raises(ModelError, match="already carries prefixes"):
        adaptation.apply(model)


def _without(model):
    for module in model.modules():
        if "prefix" in module._modules:
            del module.prefix
    return model


def test_generation_reads_the_prefix_with_and_without_padding(llama, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed with a cache, padded with another, and one token after the other by whole texts: the same answers."""
    model = prefix(length=4).apply(llama).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gates" in name:
                parameter.fill_(1.5)
    prompts = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16]]
    wanted = []
    for prompt in prompts:
        text = list(prompt)
        for _ in range(8):
            with torch.no_grad():
                text.append(int(model(input_ids=torch.tensor([text])).logits[0, -1].argmax()))
        wanted.append(text[len(prompt) :])
    settings = {"stop": {399}, "pad": 0, "max_new_tokens": 8}
    assert generate(model, prompts, **settings) == wanted
    monkeypatch.setattr(generating, "decoding_offset", lambda *given: None)
    assert generate(model, prompts, **settings) == wanted
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gates" in name:
                parameter.zero_()
    assert generate(model, prompts, **settings) != wanted, "the prefix made a difference"


def test_a_model_whose_attention_cannot_be_reached_is_refused() -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, state_size=4))
    with pytest.raises(ModelError, match="cannot be reached"):
        prefix().apply(model)


def test_a_phase_after_prefixes_is_refused_before_loading() -> None:
    phases = [
        {"name": "one", "objective": "causal_lm", "adaptation": "prefix"},
        {"name": "two", "objective": "causal_lm"},
    ]
    with pytest.raises(RecipeError, match="whose prefixes cannot be folded in"):
        Recipe.of({"name": "x", "model": "m", "data": {"train": "t.jsonl"}, "phases": phases})
