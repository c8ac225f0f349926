"""Which layers `train` means, gradual unfreezing, and the errors for what is not there."""

from __future__ import annotations

import pytest

from luthier.core.component import build
from luthier.core.errors import ModelError, RecipeError


@pytest.fixture
def deep(bert):
    """A BERT of four layers."""
    return type(bert)(type(bert.config)(**(bert.config.to_dict() | {"num_hidden_layers": 4})))


def trained(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def layers_of(names) -> set[int]:
    return {int(name.split(".layer.")[1].split(".")[0]) for name in names if ".layer." in name}


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("last:2", {2, 3}),
        ("0-2", {0, 1, 2}),
        (0.5, {2, 3}),
        (0.3, {2, 3}),
        (0.25, {3}),
        (1.0, {0, 1, 2, 3}),
        ([0, -1], {0, 3}),
        ([1, "last:1"], {1, 3}),
        ("encoder.layer.1", {1}),
        (["layer.[02].attention"], {0, 2}),
    ],
)
def test_layers_by_number_share_range_and_name(deep, train, expected) -> None:
    names = trained(build("adaptations", {"frozen": {"train": train}}).apply(deep))
    assert layers_of(names) == expected
    head = {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert names - {name for name in names if ".layer." in name} == head


def test_names_choose_single_weights(deep) -> None:
    names = trained(build("adaptations", {"frozen": {"train": ["*.query.bias"]}}).apply(deep))
    assert {name for name in names if ".layer." in name} == {
        f"bert.encoder.layer.{number}.attention.self.query.bias" for number in range(4)
    }


def test_embeddings_train_where_wanted(deep, llama) -> None:
    names = trained(build("adaptations", {"frozen": {"train": "last:1", "embeddings": True}}).apply(deep))
    assert "bert.embeddings.word_embeddings.weight" in names
    assert "bert.embeddings.LayerNorm.bias" in names
    names = trained(build("adaptations", {"frozen": {"train": "last:1"}}).apply(llama))
    assert "model.embed_tokens.weight" not in names
    assert "model.norm.weight" in names


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("last:5", "layers 0 to 3"),
        ("last:0", "layers 0 to 3"),
        ([4], "layers 0 to 3"),
        ([-5], "layers 0 to 3"),
        ("2-4", "layers 0 to 3"),
        ("quary", "did you mean 'query'"),
        ("decoder.*", r"bert\.encoder\.layer\.\*\.attention\.self\.query"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(deep, train, message) -> None:
    with pytest.raises(ModelError, match=message):
        build("adaptations", {"frozen": {"train": train}}).apply(deep)


@pytest.mark.parametrize("train", [0.0, 1.5, 2])
def test_a_share_lies_between_zero_and_one(train) -> None:
    with pytest.raises(RecipeError, match="a share of the layers"):
        build("adaptations", {"frozen": {"train": train}})


def test_gradual_unfreezing_goes_down_from_the_top(deep) -> None:
    adaptation = build("adaptations", {"frozen": {"train": "1-3", "gradual": 0.3, "embeddings": True}})
    model = adaptation.apply(deep)
    final = trained(model)
    seen = []
    for progress in (0.0, 0.07, 0.075, 0.15, 0.225, 0.3, 1.0):
        adaptation.at(progress, model)
        names = trained(model)
        assert "classifier.weight" in names
        seen.append((layers_of(names), "bert.embeddings.word_embeddings.weight" in names))
    assert seen == [
        (set(), False),
        (set(), False),
        ({3}, False),
        ({2, 3}, False),
        ({1, 2, 3}, False),
        ({1, 2, 3}, True),
        ({1, 2, 3}, True),
    ]
    assert trained(model) == final
    adaptation.at(0.1, model)
    assert layers_of(trained(model)) == {3}, "a resumed run asks for any progress"
    assert {name for group in adaptation.groups(model) for name, _ in group.parameters} == final


def test_gradual_without_a_head_begins_with_the_top_layer(llama) -> None:
    adaptation = build("adaptations", {"frozen": {"train": 1.0, "gradual": True}})
    assert adaptation.gradual == 0.5
    model = adaptation.apply(llama)
    adaptation.at(0.0, model)
    assert {name.rpartition(".layers.")[2][0] for name in trained(model) if ".layers." in name} == {"1"}
    assert "model.norm.weight" in trained(model)
    adaptation.at(0.25, model)
    assert "model.layers.0.mlp.up_proj.weight" in trained(model)


def test_rates_by_layer(deep) -> None:
    adaptation = build("adaptations", {"frozen": {"train": "2-3", "layer_decay": 0.5, "head_scale": 3.0}})
    scales = {name: group.scale for group in adaptation.groups(deep) for name, _ in group.parameters}
    assert scales["bert.encoder.layer.3.output.dense.weight"] == 0.5
    assert scales["bert.encoder.layer.2.output.dense.weight"] == 0.25
    assert scales["classifier.weight"] == 3.0
