"""Norms, dropouts, gated blocks in their faster form, beside their formulas and the modules whose place they take."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from luthier.functional.dropout import dropout, keep_mask
from luthier.functional.gated import gated
from luthier.functional.norm import rms_norm
from luthier.models.fused import fuse, fuse_biases

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.003])
def test_a_mask_drops_its_share_everywhere_and_repeats_with_the_seed(rate: float) -> None:
    torch.manual_seed(4)
    first = keep_mask((701, 401), rate, CPU)
    torch.manual_seed(4)
    assert torch.equal(first, keep_mask((701, 401), rate, CPU))
    assert not torch.equal(first, keep_mask((701, 401), rate, CPU))
    dropped = (~first).double()
    deviation = (rate * (1 - rate) / first.numel()) ** 0.5
    assert abs(float(dropped.mean()) - rate) < 5 * deviation + 2**-17
    flat = dropped.flatten()
    for step in (1, 2, 4, 401):
        together = float((flat[step:] * flat[:-step]).mean())
        assert abs(together - rate**2) < 6 * (rate**2 * (1 - rate**2) / len(flat)) ** 0.5, "neighbors are independent"
    for lane in range(4):
        assert abs(float(flat[lane::4].mean()) - rate) < 11 * deviation, "each quarter of a draw has the same share"


def test_a_rate_next_to_one_drops_nearly_all() -> None:
    assert (~keep_mask((4000,), 1 - 1e-7, CPU)).sum() > 3990


def test_dropout_keeps_the_mean_and_its_gradient_is_the_forwards() -> None:
    x = draw(50, 7).requires_grad_()
    torch.manual_seed(2)
    found = dropout(x, 0.25)
    torch.manual_seed(2)
    kept = keep_mask((50, 7), 0.25, CPU)
    assert torch.allclose(found, x * kept / 0.75, atol=1e-15)
    assert torch.allclose(torch.autograd.grad(found.sum(), x)[0], kept.double() / 0.75, atol=1e-15)


def test_norm_and_its_gradients_are_the_formulas() -> None:
    x, weight = draw(2, 5, 8).requires_grad_(), draw(8, seed=2).requires_grad_()
    wanted = weight * x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    assert torch.allclose(rms_norm(x, weight, 1e-3), wanted, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, 1e-3), (x, weight))


def test_norm_in_bfloat16_is_no_farther_from_float64_than_transformers() -> None:
    own = LlamaRMSNorm(96, eps=1e-6).to(torch.bfloat16)
    fused = fuse(nn.Sequential(copy.deepcopy(own)))[0]
    assert type(fused) is not LlamaRMSNorm
    rows = draw(300, 96).bfloat16()
    exact_x = rows.double().requires_grad_()
    exact = exact_x / (exact_x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    exact.sin().sum().backward()

    def distances(module: nn.Module) -> tuple[float, float]:
        x = rows.clone().requires_grad_()
        output = module(x)
        output.double().sin().sum().backward()
        return float((output.double() - exact).norm().detach()), float((x.grad.double() - exact_x.grad).norm())

    for ours, theirs in zip(distances(fused), distances(own), strict=True):
        assert ours <= 1.05 * theirs


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen3RMSNorm])
def test_a_norm_that_computes_the_same_is_replaced_in_place(kind: type[nn.Module]) -> None:
    own = kind(16)
    fused = fuse(nn.Sequential(copy.deepcopy(own)))[0]
    assert type(fused) is not kind
    assert isinstance(fused, kind)
    assert type(fused).__name__ == kind.__name__
    assert list(fused.state_dict()) == list(own.state_dict())
    x = draw(3, 16).float()
    assert torch.allclose(fused(x), own(x), atol=1e-6)
    assert torch.equal(copy.deepcopy(fused)(x), fused(x))
    with torch.no_grad():
        assert torch.equal(fused(x.double()), own(x.double())), "another dtype goes the module's own way"


def test_a_norm_that_computes_something_else_is_left_alone() -> None:
    assert type(fuse(nn.Sequential(GemmaRMSNorm(16)))[0]) is GemmaRMSNorm, "its weight is added to one"

    rounding_last = Olmo2RMSNorm(64)
    assert type(fuse(nn.Sequential(rounding_last))[0]) is Olmo2RMSNorm, "it differs in bfloat16 alone"

    class OddRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return super().forward(hidden_states) * 1.01

    assert type(fuse(nn.Sequential(OddRMSNorm(16)))[0]) is OddRMSNorm


def test_dropouts_are_replaced_and_idle_outside_training() -> None:
    model = fuse(nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0), nn.Dropout1d(0.5)))
    x = draw(40, 8)
    assert (model[0](x) == 0).double().mean() > 0.3
    assert torch.equal(model[1](x), x)
    assert type(model[2]) is nn.Dropout1d
    assert torch.equal(model.eval()(x), x)


def test_biases_are_added_in_place_where_a_model_is_asked() -> None:
    layer = nn.Linear(24, 40).bfloat16()
    model = fuse_biases(nn.Sequential(copy.deepcopy(layer), nn.Linear(40, 3, bias=False)))
    asked = model[0]
    assert isinstance(asked, nn.Linear)
    assert type(model[1]) is nn.Linear
    x = draw(5, 7, 24).bfloat16()
    assert torch.equal(asked(x), layer(x)), "with gradients a layer goes its own way"
    with torch.no_grad():
        found, exact = asked(x), nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
        torch.testing.assert_close(found.double(), exact, rtol=2**-7, atol=2**-7)
        assert torch.equal(asked.float()(x.float()), copy.deepcopy(layer).float()(x.float()))


# ---- gated blocks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each call of a block as one operation."""
    calls: list[None] = []

    def counting(*given: Tensor) -> Tensor:
        calls.append(None)
        return gated(*given)

    monkeypatch.setattr("luthier.models.fused.gated", counting)
    return calls


def block(dtype: torch.dtype = torch.float32, **settings: Any) -> nn.Module:
    torch.manual_seed(2)
    return LlamaMLP(LlamaConfig(hidden_size=24, intermediate_size=40, num_attention_heads=4, **settings)).to(dtype)


def results(module: nn.Module, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Output, gradient of the input, and of each weight that learns."""
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    y = module(x)
    given = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [y, *torch.autograd.grad(y, [x, *learning], given)]


@pytest.mark.parametrize(
    "frozen", [(), ("gate_proj", "up_proj"), ("down_proj",), ("gate_proj", "up_proj", "down_proj")]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_plain_gated_block_is_one_operation(frozen: tuple[str, ...], dtype: torch.dtype, counted: list[None]) -> None:
    own = block(dtype)
    for name in frozen:
        own.get_submodule(name).requires_grad_(False)
    fused = fuse(nn.Sequential(copy.deepcopy(own)))[0]
    found, wanted = results(fused, dtype), results(own, dtype)
    assert len(counted) == 1
    for ours, other in zip(found, wanted, strict=True):
        assert (ours - other).norm() <= (1e-12 if dtype == torch.float64 else 1e-2) * other.norm()
    assert fused.state_dict().keys() == own.state_dict().keys()


def test_a_gated_block_keeps_what_the_formula_says() -> None:
    """The input, G(x) and U(x); autograd keeps silu(G(x)) and the product too."""

    def kept(module: nn.Module) -> int:
        seen: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if not any(tensor.data_ptr() == p.data_ptr() for p in module.parameters()):
                seen[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = module(torch.randn(7, 24))
        assert output.requires_grad
        return sum(seen.values())

    assert kept(fuse(nn.Sequential(block()))[0]) == 7 * (24 + 2 * 40)
    assert kept(block()) == 7 * (24 + 4 * 40)


def hooked(module: Any) -> None:
    module.up_proj.register_forward_hook(lambda module, given, output: output * 2)


def other_activation(module: Any) -> None:
    module.act_fn = nn.GELU()


def mixed(module: Any) -> None:
    module.down_proj = nn.Sequential(module.down_proj)


@pytest.mark.parametrize("change", [hooked, other_activation, mixed])
def test_any_other_gated_block_goes_its_own_way(change: Callable[[nn.Module], None], counted: list[None]) -> None:
    own, fused = block(), fuse(nn.Sequential(block()))[0]
    change(own)
    change(fused)
    assert all(torch.equal(a, b) for a, b in zip(results(fused), results(own), strict=True))
    assert not counted


def test_a_gated_block_with_biases_or_under_autocast_goes_its_own_way(counted: list[None]) -> None:
    results(fuse(nn.Sequential(block(mlp_bias=True)))[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fuse(nn.Sequential(block()))[0](torch.randn(3, 24))
    assert not counted


# ---- gradients in bfloat16 -------------------------------------------------------------------------------------------


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


def test_a_layer_norm_sums_its_gradients_over_many_tokens_without_loss() -> None:
    own = nn.LayerNorm(48).double()
    with torch.no_grad():
        own.weight.copy_(draw(48, seed=2).bfloat16())
    half = fuse(nn.Sequential(copy.deepcopy(own).bfloat16()))
    x, slope = draw(4096, 48).bfloat16(), draw(4096, 48, seed=3).bfloat16() + 0.25
    sides = [x.double().requires_grad_(), x.clone().requires_grad_()]
    own(sides[0]).backward(slope.double())
    half(sides[1]).backward(slope)
    assert apart(half[0].weight.grad, own.weight.grad) < 0.003
    assert apart(half[0].bias.grad, own.bias.grad) < 0.003
    assert apart(sides[1].grad, sides[0].grad) < 0.003


def test_a_frozen_layer_norm_passes_its_gradient_on() -> None:
    half = fuse(nn.Sequential(nn.LayerNorm(48).bfloat16().requires_grad_(False)))
    x = draw(5, 48).bfloat16().requires_grad_()
    half(x).sum().backward()
    assert x.grad is not None
    assert half[0].weight.grad is None


@pytest.mark.parametrize("padding", [None, 0])
def test_an_embedding_sums_the_gradients_of_a_frequent_token_without_loss(padding: int | None) -> None:
    own = nn.Embedding(5, 48, padding_idx=padding).double()
    half: Any = fuse(nn.Sequential(copy.deepcopy(own).bfloat16()))
    numbers = torch.tensor([0, 1, 1, 1, 3, 1, 1, 1]).repeat(512)[None]
    slope = draw(1, 4096, 48).bfloat16() + 0.25
    own(numbers).backward(slope.double())
    half(numbers).backward(slope)
    assert half[0].weight.grad.dtype == torch.bfloat16
    assert apart(half[0].weight.grad, own.weight.grad) < 0.003
    assert not half[0].weight.grad[2].any()


def test_no_token_at_all_is_no_error() -> None:
    half: Any = fuse(nn.Sequential(nn.Embedding(5, 48).bfloat16(), nn.LayerNorm(48).bfloat16()))
    half(torch.zeros(1, 0, dtype=torch.long)).sum().backward()
    assert not half[0].weight.grad.any()
    assert not half[1].weight.grad.any()
