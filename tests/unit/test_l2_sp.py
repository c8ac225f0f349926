"""L2-SP by numbers worked out by hand, and where it is refused."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from luthier.core.component import build
from luthier.core.errors import ModelError, RecipeError
from luthier.core.recipe import Recipe


def value(penalty, model, state) -> torch.Tensor:
    (term,) = penalty.terms(SimpleNamespace(policy=SimpleNamespace(model=model)), None, state)
    assert (term.name, term.weight, tuple(term.totals.shape)) == ("l2_sp", 1.0, (1,))
    return term.totals[0]


def test_it_pulls_to_the_start_and_not_to_zero(llama) -> None:
    model = build("adaptations", "full").apply(llama)
    penalty = build("penalties", {"l2_sp": {"weight": 0.5}})
    state = penalty.begin(model)
    assert value(penalty, model, state).item() == 0.0
    weight = model.model.layers[0].self_attn.q_proj.weight
    norm = model.model.norm.weight
    with torch.no_grad():
        weight[0, 0] += 3.0
        norm[1] -= 4.0
    total = value(penalty, model, state)
    assert total.item() == pytest.approx(0.25 * (9 + 16), rel=1e-6)
    total.backward()
    assert norm.grad[1].item() == pytest.approx(0.5 * -4.0, rel=1e-6)
    assert weight.grad[0, 0].item() == pytest.approx(0.5 * 3.0, rel=1e-6)
    assert weight.grad.count_nonzero() == 1


def test_a_head_is_pulled_to_zero(bert) -> None:
    model = build("adaptations", "full").apply(bert)
    penalty = build("penalties", {"l2_sp": {"weight": 7.0, "head_weight": 0.5}})
    state = penalty.begin(model)
    assert not any(name.startswith("classifier") for name in state)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("classifier", "bert.pooler")):
                parameter.zero_()
        model.classifier.weight[0, :2] = torch.tensor([3.0, 4.0])
        model.classifier.bias[2] = 1.0
    total = value(penalty, model, state)
    assert total.item() == pytest.approx(0.25 * (9 + 16 + 1), rel=1e-6)
    total.backward()
    assert model.classifier.weight.grad[0, :2].tolist() == pytest.approx([1.5, 2.0])


def test_a_pretrained_output_layer_is_body(llama) -> None:
    untied = type(llama)(type(llama.config)(**(llama.config.to_dict() | {"tie_word_embeddings": False})))
    state = build("penalties", "l2_sp").begin(untied)
    assert "lm_head.weight" in state


def test_layers_that_are_unfrozen_later_start_where_the_phase_did(llama) -> None:
    adaptation = build("adaptations", {"frozen": {"train": 1.0, "gradual": 0.5}})
    model = adaptation.apply(llama)
    penalty = build("penalties", {"l2_sp": {"weight": 2.0}})
    state = penalty.begin(model)
    adaptation.at(0.0, model)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 5.0
    assert value(penalty, model, state).item() == pytest.approx(25.0, rel=1e-6)


def test_frozen_weights_are_not_copied(llama) -> None:
    model = build("adaptations", {"frozen": {"train": [1]}}).apply(llama)
    state = build("penalties", "l2_sp").begin(model)
    assert state
    assert all(name.startswith(("model.layers.1.", "model.norm.")) for name in state)


def test_bottlenecks_and_unmoving_bodies_are_refused(llama, bert) -> None:
    penalty = build("penalties", "l2_sp")
    with pytest.raises(ModelError, match="not known of what this adaptation adds"):
        penalty.begin(build("adaptations", "bottleneck").apply(copy.deepcopy(llama)))
    for other in ("peft", "prefix", "prompt", {"lora": {"dora": True, "rank": 4}}):
        with pytest.raises(ModelError, match="not known of what this adaptation adds"):
            penalty.begin(build("adaptations", other).apply(copy.deepcopy(llama)))
    with pytest.raises(ModelError, match="no weight of the body moves"):
        penalty.begin(build("adaptations", "head").apply(bert))


@pytest.mark.parametrize(
    "adaptation", ["bottleneck", "head", "peft", "prefix", "prompt", {"lora": {"dora": True}}], ids=str
)
def test_a_recipe_that_combines_them_is_refused_before_loading(adaptation) -> None:
    phase = {"objective": "classify", "adaptation": adaptation, "penalties": ["l2_sp"]}
    with pytest.raises(RecipeError, match="l2_sp") as caught:
        Recipe.of({"name": "x", "model": "m", "data": {"train": "t.jsonl"}, "phases": [phase]})
    assert any(problem.where == "phases.0.penalties.0" for problem in caught.value.problems)
