"""Rates by depth and for heads, in numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from luthier.core.component import build
from luthier.core.errors import RecipeError
from luthier.core.recipe import Recipe


def scales(adaptation, model) -> dict[str, tuple[float, bool]]:
    return {name: (group.scale, group.decay) for group in adaptation.groups(model) for name, _ in group.parameters}


def test_rates_fall_toward_the_embeddings(bert) -> None:
    found = scales(build("adaptations", {"full": {"layer_decay": 0.5}}), bert)
    assert found["bert.embeddings.word_embeddings.weight"] == (0.125, True)
    assert found["bert.embeddings.LayerNorm.weight"] == (0.125, False)
    assert found["bert.encoder.layer.0.attention.self.query.weight"] == (0.25, True)
    assert found["bert.encoder.layer.1.output.dense.bias"] == (0.5, False)
    assert found["classifier.weight"] == (1.0, True)


def test_a_tied_output_layer_goes_with_the_embeddings_and_the_last_norm_with_the_top(llama) -> None:
    found = scales(build("adaptations", {"full": {"layer_decay": 0.5}}), llama)
    assert found["model.embed_tokens.weight"] == (0.125, True)
    assert found["model.norm.weight"] == (1.0, False)
    assert "lm_head.weight" not in found


def test_a_head_may_be_faster(bert) -> None:
    found = scales(build("adaptations", {"full": {"head_scale": 20.0}}), bert)
    assert {name for name, (scale, _) in found.items() if scale == 20.0} == {
        "classifier.weight",
        "classifier.bias",
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    }
    assert {scale for scale, _ in found.values()} == {1.0, 20.0}


@pytest.mark.parametrize("name", ["full", "frozen", "lora", "bottleneck", "bitfit"])
def test_head_scale_without_a_head_is_a_problem_of_the_recipe(name) -> None:
    phase = {"adaptation": {name: {"head_scale": 2.0}}}
    with pytest.raises(RecipeError, match="no fresh head") as caught:
        Recipe.of({"name": "x", "model": "m", "data": {"train": "t.jsonl"}, "phases": [phase]})
    assert caught.value.problems[0].where == "phases.0.adaptation"


def test_a_tied_weight_is_written_once(llama, tmp_path) -> None:
    adaptation = build("adaptations", "full")
    adaptation.save(llama, tmp_path)
    with safe_open(tmp_path / "trained.safetensors", "pt") as file:
        assert set(file.keys()) == {name for name, _ in llama.named_parameters()}
    assert adaptation.merge(llama) is llama


def test_persistent_buffers_are_part_of_the_state(llama, tmp_path) -> None:
    llama.register_buffer("steps_seen", torch.tensor([3.0]))
    adaptation = build("adaptations", "full")
    adaptation.save(llama, tmp_path)
    llama.steps_seen.zero_()
    adaptation.load(llama, tmp_path)
    assert llama.steps_seen.item() == 3.0
