"""LoRA as one operation: beside its formula in float64, and beside PEFT's own layer, whose place it takes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaMLP

from luthier.core.component import build
from luthier.functional.dropout import keep_mask
from luthier.functional.low_rank import low_rank_linear
from luthier.functional.low_rank_gated import low_rank_gated
from luthier.models.fused import fuse_lora

SCALE = 1.7


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7,), (2, 5), (3, 1, 4), (0,), (2, 0)])
def test_output_and_gradients_are_the_formulas(shape: tuple[int, ...], bias: bool) -> None:
    x, down, up = (draw(*given, seed=seed).requires_grad_() for seed, given in enumerate([(*shape, 6), (3, 6), (5, 3)]))
    weight, added = draw(5, 6, seed=8), draw(5, seed=9) if bias else None
    expected = torch.nn.functional.linear(x, weight, added) + SCALE * (x @ down.T @ up.T)
    assert torch.allclose(low_rank_linear(x, weight, added, down, up, SCALE), expected, atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda *given: low_rank_linear(given[0], weight, added, *given[1:], SCALE), (x, down, up)
    )


def test_nothing_is_differentiated_below_an_input_that_needs_no_gradient() -> None:
    x, down, up = draw(4, 6, seed=1), draw(2, 6, seed=2).requires_grad_(), draw(5, 2, seed=3).requires_grad_()
    low_rank_linear(x, draw(5, 6, seed=4), None, down, up, SCALE).sum().backward()
    assert x.grad is None
    assert down.grad is not None
    assert up.grad is not None


def test_dropout_acts_on_the_change_alone_and_its_gradient_is_the_forwards() -> None:
    x, weight = draw(400, 6, seed=1).requires_grad_(), draw(5, 6, seed=2)
    down, up = draw(6, 6, seed=3), torch.zeros(5, 6, dtype=torch.float64)
    assert torch.equal(low_rank_linear(x, weight, None, down, up, 1.0, 0.5), x @ weight.T), "a change of zero"
    up = draw(5, 6, seed=4)
    torch.manual_seed(5)
    output = low_rank_linear(x, weight, None, down, up, 1.0, 0.25)
    torch.manual_seed(5)
    kept = keep_mask((400, 6), 0.25, x.device)
    assert abs(kept.double().mean() - 0.75) < 0.05
    expected = x @ weight.T + ((x * kept) / 0.75) @ down.T @ up.T
    assert torch.allclose(output, expected, atol=1e-12)
    found, wanted = (torch.autograd.grad(value.sin().sum(), x)[0] for value in (output, expected))
    assert torch.allclose(found, wanted, atol=1e-12)


def adapted(model: nn.Module, **parameters: object) -> nn.Module:
    """The model with adapters that are not zero."""
    model = build("adaptations", {"lora": {"rank": 4, **parameters}}).apply(model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = draw(*parameter.shape, seed=len(name), dtype=torch.float32) * 0.05
    return model


def plain(model: nn.Module) -> nn.Module:
    """The same model with PEFT's own layers and its family's own blocks."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, Linear):
            module.__class__ = Linear
        elif isinstance(module, LlamaMLP):
            module.__class__ = LlamaMLP
    return model


def gradients(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    ids = torch.randint(3, 400, (3, 11), generator=torch.Generator().manual_seed(2))
    logits = model(input_ids=ids).logits
    if logits.requires_grad:
        logits.float().log_softmax(-1)[..., 1].mean().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_layers_are_fused_and_equal_pefts(kind: str, request: pytest.FixtureRequest) -> None:
    model = adapted(request.getfixturevalue(kind))
    assert not any(type(module) is Linear for module in model.modules())
    (logits, found), (wanted, expected) = gradients(model), gradients(plain(model))
    assert torch.allclose(logits, wanted, atol=1e-6)
    assert set(found) == set(expected)
    assert len([name for name in found if "lora_" in name]) > 8
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name


def fused_blocks(model: nn.Module) -> int:
    return sum(isinstance(module, LlamaMLP) and type(module) is not LlamaMLP for module in model.modules())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each call of a block as one operation."""
    calls: list[None] = []

    def counting(*given: object) -> Tensor:
        calls.append(None)
        return low_rank_gated(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("luthier.models.fused.low_rank_gated", counting)
    return calls


def test_a_gated_block_of_plain_lora_layers_is_one_operation(llama: nn.Module, counted: list[None]) -> None:
    model = adapted(llama)
    assert fused_blocks(model) == model.config.num_hidden_layers
    gradients(model)
    assert len(counted) == model.config.num_hidden_layers


def with_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Linear):
            module.lora_dropout["default"] = nn.Dropout(0.5).train()
            module.train()


def other_activation(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, LlamaMLP):
            module.act_fn = nn.GELU()


def hooked_layer(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, LlamaMLP):
            module.gate_proj.register_forward_hook(lambda module, given, output: output * 2)


@pytest.mark.parametrize("change", [with_dropout, other_activation, hooked_layer])
def test_any_other_gated_block_goes_its_own_way(
    change: Callable[[nn.Module], None], llama: nn.Module, counted: list[None]
) -> None:
    model = adapted(llama)
    change(model)
    torch.manual_seed(1)
    logits = gradients(model)[0]
    assert not counted
    if change is not with_dropout:  # whose random numbers differ from torch's own
        assert torch.allclose(logits, gradients(plain(model))[0], atol=1e-6)


def test_blocks_of_some_adapted_layers_go_their_own_way(llama: nn.Module, counted: list[None]) -> None:
    model = adapted(llama, targets=["gate_proj", "up_proj"])
    (logits, found), (wanted, expected) = gradients(model), gradients(plain(model))
    assert not counted
    assert torch.allclose(logits, wanted, atol=1e-6)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_over_bfloat16_it_is_no_farther_from_float64_than_peft(llama: nn.Module) -> None:
    model = adapted(llama)
    exact = plain(copy.deepcopy(model)).double()
    half = copy.deepcopy(model)
    for parameter in half.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    _, wanted = gradients(exact)
    _, found = gradients(half)
    _, other = gradients(plain(half))

    def distance(those: dict[str, Tensor]) -> float:
        return float(torch.stack([(those[name].double() - wanted[name]).norm() for name in wanted]).norm())

    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    assert distance(found) < 1.3 * distance(other)


def switched_off(model: nn.Module) -> None:
    model.disable_adapter_layers()


def merged(model: nn.Module) -> None:
    model.merge_adapter()


def second(model: nn.Module) -> None:
    model.add_adapter("other", model.peft_config["default"])
    model.base_model.set_adapter(["default", "other"])


def hooked(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Linear):
            module.lora_A["default"].register_forward_hook(lambda module, given, output: output * 2)


def trained_base(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Linear):
            module.base_layer.weight.requires_grad_(True)


class Doubling(nn.Linear):
    """A linear layer of its own kind, as those that quantize their weights as they go (BitNet's AutoBitLinear)."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def other_kind(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Linear):
            module.base_layer.__class__ = Doubling


@pytest.mark.parametrize("change", [switched_off, merged, second, hooked, trained_base, other_kind])
def test_what_the_operation_does_not_cover_goes_pefts_way(
    change: Callable[[nn.Module], None], llama: nn.Module
) -> None:
    model = adapted(llama)
    before = gradients(model)[0]
    model.zero_grad()
    change(model)
    (logits, found), (wanted, expected) = gradients(model), gradients(plain(model))
    assert torch.allclose(logits, wanted, atol=1e-6)
    assert set(found) == set(expected)
    if change in (switched_off, hooked, other_kind):
        assert not torch.allclose(logits, before, atol=1e-4)


def test_autocast_goes_pefts_way(llama: nn.Module) -> None:
    model = adapted(llama)
    ids = torch.randint(3, 400, (2, 9))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, plain(model)(input_ids=ids).logits)


def test_variants_keep_their_own_forward(llama: nn.Module) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(llama, LoraConfig(r=4, target_modules=["q_proj"], use_dora=True))
    (found, _), (wanted, _) = gradients(fuse_lora(copy.deepcopy(model))), gradients(model)
    assert torch.equal(found, wanted)
