"""A model loaded in bfloat16 is the one that transformers loads in bfloat16: weights, buffers and logits, also when an
adapter was folded in, and when what was trained is exported and read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tiny import make_tokenizer

from luthier.core.component import build
from luthier.models.cast import cast
from luthier.models.export import save_model
from luthier.models.load import load_model

SIZE: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 2,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaConfig(**SIZE),
    "qwen3": lambda: hf.Qwen3Config(**SIZE, tie_word_embeddings=True),
    "gemma3": lambda: hf.Gemma3TextConfig(
        **SIZE, sliding_window=64, layer_types=["sliding_attention", "full_attention"]
    ),
    # Keeps a buffer of its own in float32 even where it is stored, and routes by it.
    "dots1": lambda: hf.Dots1Config(
        **SIZE, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=16
    ),
}
HALF = torch.bfloat16
IDS = torch.randint(4, 400, (1, 500), generator=torch.Generator().manual_seed(3))


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(FAMILIES[request.param]())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for n, b in model.named_buffers() if n in model.state_dict())):
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))  # attention that looks at distances
    model.save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def theirs(folder: Path, dtype: torch.dtype = HALF) -> Any:
    return hf.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def assert_same(ours: Any, wanted: Any) -> None:
    """Every tensor in dtype and bits, and the logits of 500 tokens."""
    for kind in ("named_parameters", "named_buffers"):
        found, given = dict(getattr(ours, kind)()), dict(getattr(wanted, kind)())
        assert found.keys() == given.keys()
        for name, tensor in given.items():
            assert found[name].dtype == tensor.dtype, name
            assert torch.equal(found[name], tensor), name
    with torch.no_grad():
        assert torch.equal(ours(IDS).logits, wanted(IDS).logits)


def trained(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """The loaded model with an adapter that has moved, the adaptation and the tokenizer."""
    loaded = load_model(str(folder), "causal_lm", dtype=dtype)
    lora = build("adaptations", {"lora": {"rank": 4, "targets": ["q_proj", "k_proj"]}})
    torch.manual_seed(1)
    model = lora.apply(loaded.model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval(), lora, loaded.tokenizer


def test_a_model_is_loaded_as_transformers_loads_it(folder: Path) -> None:
    assert_same(load_model(str(folder), "causal_lm", dtype=HALF).model, theirs(folder))


def test_casting_is_loading_in_that_dtype(folder: Path) -> None:
    assert_same(cast(theirs(folder, torch.float32), HALF), theirs(folder))


def test_an_adapter_is_folded_in_and_read_by_others_with_the_same_logits(folder: Path, tmp_path: Path) -> None:
    model, lora, tokenizer = trained(folder, HALF)
    lora.save(model, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(
        file.read_text().replace('"base_model_name_or_path": null', f'"base_model_name_or_path": "{folder}"')
    )
    ours = load_model(str(tmp_path / "adapter"), "causal_lm", dtype=HALF).model

    whole, _, _ = trained(folder, torch.float32)
    lora.load(whole, tmp_path / "adapter")
    save_model(lora.merge(whole), tokenizer, tmp_path / "merged", dtype=HALF)
    assert_same(ours, theirs(tmp_path / "merged"))
    assert_same(load_model(str(tmp_path / "merged"), "causal_lm", dtype=HALF).model, theirs(tmp_path / "merged"))


@pytest.mark.parametrize("folder", ["llama", "qwen3", "gemma3"], indirect=True)  # a router would turn on a rounding
def test_a_trained_adapter_answers_on_transformers_own_base(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    model, lora, _ = trained(folder, HALF)
    lora.save(model, tmp_path / "adapter")
    other = PeftModel.from_pretrained(theirs(folder), str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        found, wanted = model(IDS).logits.float(), other(IDS).logits.float()
    # Products are bfloat16 here and float32 there; frequencies in bfloat16 were off by 0.1 and more.
    assert float((found - wanted).norm()) < 0.02 * float(wanted.norm())
