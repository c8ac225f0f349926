"""LoRA's kin beside PEFT: PiSSA and OLoRA over an unchanged base, LoRA+'s rates, DoRA's classes and refusals."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from numerics.test_adaptations import inputs, log_probabilities, train
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from luthier.core.component import build
from luthier.core.errors import ModelError, RecipeError
from luthier.functional.low_rank import orthonormal_factors, principal_factors
from luthier.models.cast import cast

INITS = ["pissa", "olora"]


def lora(**parameters: object):
    return build("adaptations", {"lora": {"rank": 4, **parameters}})


def loss_of(model: nn.Module) -> torch.Tensor:
    logits = model(**inputs(model)).logits.float()
    return nn.functional.cross_entropy(logits.flatten(0, -2), torch.arange(logits[..., 0].numel()) % 3)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (24, 24)])
def test_principal_factors_are_the_best_matrix_of_their_rank(shape: tuple[int, int]) -> None:
    """Beside the whole decomposition: from a quarter of the smaller side on exact, below that by iterations."""
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    for rank in (2, 5, 6, 24):
        torch.manual_seed(1)
        down, up = principal_factors(weight, rank, 2.0)
        found, best = 2.0 * up.double() @ down.double(), (left[:, :rank] * values[:rank]) @ right[:rank]
        torch.testing.assert_close(down.square().sum(1), up.square().sum(0))
        if 4 * rank < 24:
            assert float((found - weight).norm()) <= 1.002 * float((best - weight).norm())
        else:
            torch.testing.assert_close(found, best, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(down.square().sum(1), values[:rank].float() / 2)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("stabilized", [False, True])
def test_it_learns_as_pefts_does_with_the_residual_as_its_base(llama, init: str, stabilized: bool) -> None:
    """The same start, loss, gradients and, three steps later, weights; PEFT changes the base, and here it stays."""
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        use_rslora=stabilized,
        init_lora_weights=init,
        target_modules=["q_proj", "v_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )
    theirs = get_peft_model(copy.deepcopy(llama), config)
    adaptation = lora(rank=8, init=init, alpha=16.0, rank_stabilized=stabilized, targets=list(config.target_modules))
    before = {name: p.clone() for name, p in llama.named_parameters()}
    ours = adaptation.apply(llama)
    pairs = [(p, dict(theirs.named_parameters())[name]) for name, p in ours.named_parameters() if "lora_" in name]
    for (down, their_down), (up, their_up) in zip(pairs[0::2], pairs[1::2], strict=True):
        torch.testing.assert_close(up @ down, their_up @ their_down, rtol=1e-3, atol=2e-6)
        # Singular vectors are right up to their sign: from here on the two have the same ones.
        signs = (down * their_down).sum(1).sign().detach()
        down.data.mul_(signs[:, None])
        up.data.mul_(signs)
        torch.testing.assert_close(down, their_down, rtol=2e-3, atol=2e-4)
        down.data.copy_(their_down)
        up.data.copy_(their_up)
    for module in ours.modules():
        if hasattr(module, "begun_up"):
            module.begun_down.copy_(module.lora_A["default"].weight.detach())
            module.begun_up.copy_(module.lora_B["default"].weight.detach())
    for model in (ours, theirs):
        model.zero_grad()
        loss_of(model).backward()
    for mine, their in pairs:
        torch.testing.assert_close(mine.grad, their.grad, rtol=1e-4, atol=1e-7)
    with ours.disable_adapter(), theirs.disable_adapter():
        assert not torch.equal(log_probabilities(theirs), log_probabilities(ours))
    train(adaptation, ours)
    train(adaptation, theirs)
    torch.testing.assert_close(log_probabilities(ours), log_probabilities(theirs), rtol=0, atol=1e-4)
    with ours.disable_adapter():
        switched_off = log_probabilities(ours)
    plain = ours.unload()
    assert torch.equal(log_probabilities(plain), switched_off), "switched off it is the base"
    assert all(torch.equal(p, before[name]) for name, p in plain.named_parameters())


@pytest.mark.parametrize("init", INITS)
def test_where_it_began_comes_from_the_file(llama, init: str, tmp_path: Path) -> None:
    """A decomposition may come out otherwise on another machine; what was trained must not."""
    adaptation, fresh = lora(init=init), copy.deepcopy(llama)
    model = adaptation.apply(llama)
    train(adaptation, model)
    adaptation.save(model, tmp_path)
    again = adaptation.apply(fresh)
    for module in again.modules():
        if hasattr(module, "begun_up"):
            module.begun_up.mul_(-1)
    adaptation.load(again, tmp_path)
    assert torch.equal(log_probabilities(again.eval()), log_probabilities(model.eval()))


def test_a_file_of_another_rank_is_refused_in_the_recipes_numbers(llama, tmp_path: Path) -> None:
    """Files have twice the rank, which no recipe should be told to set."""
    adaptation = lora(rank=8, init="pissa", alpha=12.0)
    fresh = copy.deepcopy(llama)
    adaptation.save(adaptation.apply(llama), tmp_path)
    other = lora(rank=4, init="pissa", alpha=12.0)
    with pytest.raises(ModelError, match="trained with rank 8, not 4") as caught:
        other.load(other.apply(fresh), tmp_path)
    assert caught.value.problems[0].remedy == "set rank: 8"


def test_orthonormal_factors_are_orthonormal_and_begin_the_matrix() -> None:
    weight = torch.randn(12, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    down, up = orthonormal_factors(weight, 8)
    torch.testing.assert_close(up @ down, weight)
    down, up = orthonormal_factors(weight, 3)
    torch.testing.assert_close(up.T @ up, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close((up @ down)[:, :3], weight[:, :3])


def test_loras_b_learns_at_its_own_rate_as_pefts_optimizer_has_it(bert) -> None:
    adaptation = lora(b_scale=16.0, head_scale=3.0)
    model = adaptation.apply(bert)
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0)
    rates = {id(p): group["lr"] for group in theirs.param_groups for p in group["params"]}
    adapters = 0
    for group in adaptation.groups(model):
        for name, parameter in group.parameters:
            if "lora_" in name:
                adapters += 1
                assert 1e-3 * group.scale == pytest.approx(rates[id(parameter)]), name
                assert group.decay
            else:
                assert group.scale == 3.0
        assert group.hidden <= {name for name, _ in group.parameters}
    assert adapters == 24
    assert [group.name for group in adaptation.groups(model)] == ["body", "body, B", "head", "head, no decay"]


def test_dora_begins_at_the_size_of_the_weights_and_learns_it(llama) -> None:
    model = lora(dora=True).apply(llama)
    sizes = {name: p for name, p in model.named_parameters() if "magnitude" in name}
    assert len(sizes) == 14
    for name, size in sizes.items():
        base = model.get_submodule(name.partition(".lora_magnitude")[0]).base_layer
        torch.testing.assert_close(size, base.weight.norm(dim=1))
        assert size.requires_grad


@pytest.mark.parametrize("parameters", [{"dora": True}, {"init": "pissa"}, {"init": "olora"}, {}], ids=str)
def test_the_first_step_over_bfloat16_is_the_base(llama, parameters: dict) -> None:
    half = cast(llama, torch.bfloat16)
    before = log_probabilities(half)
    adaptation = lora(**parameters)
    model = adaptation.apply(half)
    assert torch.equal(log_probabilities(model.eval()), before)
    train(adaptation, model.train())
    tuned = log_probabilities(model.eval())
    assert not torch.equal(tuned, before)
    apart = log_probabilities(adaptation.merge(model)) - tuned
    assert float(apart.abs().max()) < 5e-2, "merged it is the same but for rounding"


@pytest.mark.parametrize("other", [{"init": "pissa"}, {"base": "int8"}])
def test_dora_is_refused_where_its_norm_would_be_another(other: dict) -> None:
    with pytest.raises(RecipeError, match="dora measures the weights"):
        lora(dora=True, **other)


def test_a_beginning_of_more_parts_than_a_matrix_has_is_refused(llama) -> None:
    """The narrowest matrix has 32 rows; the widest has 64."""
    sides = sorted({min(m.weight.shape) for _, m in llama.named_modules() if isinstance(m, nn.Linear)})
    assert sides[0] < sides[-1]
    rank = sides[0] + 1
    lora(rank=rank).apply(copy.deepcopy(llama))
    with pytest.raises(ModelError, match=f"rank {rank} is larger than a matrix"):
        lora(rank=rank, init="pissa").apply(llama)
