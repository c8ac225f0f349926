"""Packed weights: the same bits, only where they are plain, and nothing stays behind."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from luthier.core.component import build
from luthier.models import prepacked as module
from luthier.models.load import load_model
from luthier.models.prepacked import prepacked

pytestmark = pytest.mark.skipif(
    not module._supported(), reason="torch has no packed bfloat16 products on this processor"
)


def packed(model: nn.Module) -> list[str]:
    return [name for name, part in model.named_modules() if isinstance(part, module._Prepacked)]


def test_logits_are_the_same_bits_and_nothing_stays(llama_folder: str) -> None:
    model = load_model(str(llama_folder), "causal_lm", dtype=torch.bfloat16).model.eval()
    ids = torch.arange(20, 52).view(4, 8)
    before = set(vars(model.lm_head))
    with torch.inference_mode():
        wanted = model(input_ids=ids).logits
        with prepacked(model):
            assert "lm_head" in packed(model)
            assert torch.equal(model(input_ids=ids).logits, wanted)
    assert not packed(model)
    assert type(model.lm_head) is nn.Linear
    assert set(vars(model.lm_head)) == before


def test_a_bias_is_added_and_another_dtype_goes_through_torch() -> None:
    layer = nn.Linear(32, 48).bfloat16()
    x = torch.randn(5, 32).bfloat16()
    with torch.inference_mode():
        wanted = layer(x).float()
        with prepacked(layer):
            assert packed(layer) == [""]
            torch.testing.assert_close(layer(x).float(), wanted, rtol=1e-2, atol=1e-2)
            with pytest.raises(RuntimeError, match="dtype"):
                layer(x.float())  # as torch's own does


def test_layers_under_lora_and_float32_stay_as_they_are(llama_folder: str) -> None:
    model = load_model(str(llama_folder), "causal_lm", dtype=torch.bfloat16).model
    adapted = build("adaptations", {"lora": {"rank": 2}}).apply(model)  # type: ignore[attr-defined]
    with prepacked(adapted):
        assert all("lora" not in name and "proj" not in name for name in packed(adapted))
        assert any(name.endswith("lm_head") for name in packed(adapted))
    exact = load_model(str(llama_folder), "causal_lm", dtype=torch.float32).model
    with prepacked(exact):
        assert not packed(exact)


def test_without_memory_to_spare_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(64, 64).bfloat16()
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * 64 * 64 * 2 - 1))
    with prepacked(layer):
        assert not packed(layer)


def test_an_error_inside_leaves_the_layers_plain() -> None:
    layer = nn.Linear(8, 8).bfloat16()
    with pytest.raises(ValueError, match="inside"), prepacked(layer):
        raise ValueError("inside")
    assert not packed(layer)
