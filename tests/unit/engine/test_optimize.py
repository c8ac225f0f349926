"""The optimizer's side of a step, against plain torch loops."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from luthier.core.component import build
from luthier.core.contracts import ParameterGroup
from luthier.engine.optimize import Stepper


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)


def groups(model: nn.Module, scales: tuple[float, float] = (1.0, 1.0)) -> list[ParameterGroup]:
    named = list(model.named_parameters())
    return [ParameterGroup("lower", named[:2], scales[0]), ParameterGroup("upper", named[2:], scales[1], decay=False)]


def stepper(model: nn.Module, **changes: Any) -> Stepper:
    settings: dict[str, Any] = {
        "optimizer": build("optimizers", {"adamw": {"weight_decay": 0.1}}),
        "schedule": build("schedules", {"cosine": {"warmup": 0.2}}),
        "groups": groups(model, changes.pop("scales", (1.0, 1.0))),
        "lr": 1e-2,
        "total": 10,
        "clip": 1.0,
    }
    settings |= changes
    return Stepper(
        settings.pop("optimizer"),
        settings.pop("schedule"),
        settings.pop("groups"),
        **settings,
    )


def backward(model: nn.Module, step: int, scale: float = 1.0) -> None:
    draw = torch.Generator().manual_seed(step)
    inputs = torch.randn(5, 6, generator=draw).to(next(model.parameters()).dtype)
    (model(inputs).square().sum() * scale).backward()


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.3, 2.0)])
def test_a_run_of_steps_is_torch_adamw_bit_for_bit(scales: tuple[float, float]) -> None:
    ours, plain = net(), net()
    moving = stepper(ours, scales=scales)
    schedule = build("schedules", {"cosine": {"warmup": 0.2}})
    named = list(plain.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": named[:2], "lr": 1e-2 * scales[0], "weight_decay": 0.1},
            {"params": named[2:], "lr": 1e-2 * scales[1], "weight_decay": 0.0},
        ],
        fused=True,
    )
    peaks = [1e-2 * scale for scale in scales]
    for step in range(10):
        backward(ours, step)
        backward(plain, step)
        norm = float(nn.utils.clip_grad_norm_(plain.parameters(), 1.0))
        assert moving.gradient_norm() == norm
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule.at(step, 10)
        optimizer.step()
        optimizer.zero_grad()
        assert moving.step(step) == peaks[0] * schedule.at(step, 10)
        for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
            assert torch.equal(mine, theirs), step
            assert mine.grad is None


def test_the_fused_form_is_the_plain_form_to_rounding() -> None:
    ours, plain = net(), net()
    moving = stepper(ours, optimizer=build("optimizers", "adamw"), clip=None)
    optimizer = torch.optim.AdamW(plain.parameters(), weight_decay=0.0, foreach=False, fused=False)
    for step in range(10):
        backward(ours, step)
        backward(plain, step)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * moving.schedule.at(step, 10)
        moving.step(step)
        optimizer.step()
        optimizer.zero_grad()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


def test_sgd_with_momentum_is_torch_sgd() -> None:
    ours, plain = net(), net()
    sgd = {"sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}}
    moving = stepper(ours, optimizer=build("optimizers", sgd), schedule=build("schedules", {"constant": {"warmup": 0}}))
    named = list(plain.parameters())
    optimizer = torch.optim.SGD(
        [{"params": named[:2], "weight_decay": 0.01}, {"params": named[2:], "weight_decay": 0.0}],
        lr=1e-2,
        momentum=0.9,
        fused=True,
    )
    for step in range(5):
        backward(ours, step, 1e-2)
        backward(plain, step, 1e-2)
        moving.gradient_norm()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        moving.step(step)
        optimizer.step()
        optimizer.zero_grad()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("clip", [0.5, 1e6, None])
def test_clipping_is_torchs_and_the_norm_is_that_before_it(clip: float | None) -> None:
    ours, plain = net(), net()
    moving = stepper(ours, clip=clip)
    backward(ours, 0)
    backward(plain, 0)
    before = torch.cat([p.grad.flatten() for p in plain.parameters()]).norm()
    assert moving.gradient_norm() == pytest.approx(float(before), rel=1e-6)
    nn.utils.clip_grad_norm_(plain.parameters(), clip if clip is not None else float("inf"))
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


def moved(before: dict[str, torch.Tensor], model: nn.Module) -> float:
    now = dict(model.named_parameters())
    changed = sum(int((now[name] != value).sum()) for name, value in before.items())
    return changed / sum(value.numel() for value in before.values())


def test_small_updates_add_up_over_bfloat16_parameters() -> None:
    """At 2e-5 a step an entry of 0.3 lies 50 steps from its next bf16 value: without masters it never gets there."""
    constant = build("schedules", {"constant": {"warmup": 0}})
    ours, plain = net(torch.bfloat16), net(torch.bfloat16)
    before = {name: parameter.detach().clone() for name, parameter in ours.named_parameters()}
    moving = stepper(ours, optimizer=build("optimizers", "adamw"), schedule=constant, lr=2e-5, total=200, clip=None)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=2e-5, weight_decay=0.0)
    for step in range(200):
        backward(ours, step)
        backward(plain, step)
        moving.step(step)
        optimizer.step()
        optimizer.zero_grad()
    assert moved(before, plain) < 0.4
    assert moved(before, ours) > 0.9
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, moving.weights()[name].to(torch.bfloat16)), "a parameter is its master's rounding"


def test_gradients_of_bfloat16_parameters_add_up_in_float32() -> None:
    """1 + 256 times 2**-9 is 1.5; in bf16 each of the small parts would be lost."""
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    moving = stepper(nn.Module(), groups=[ParameterGroup("only", [("p", parameter)])], clip=None)
    (parameter * 1.0).sum().backward()
    for _ in range(256):
        (parameter * 2.0**-9).sum().backward()
    assert parameter.grad is None
    assert moving.gradient_norm() == 1.5


def test_masters_give_the_float32_trajectory() -> None:
    """With gradients that are the same, the masters of bf16 parameters move exactly as float32 parameters do."""
    start = net(torch.bfloat16)
    plain = copy.deepcopy(start).float()
    moving = stepper(start)
    wide = stepper(plain)
    for step in range(5):
        for half, single in zip(start.parameters(), plain.parameters(), strict=True):
            fixed = torch.full_like(single, 0.25 * (step + 1))
            (half * fixed.to(torch.bfloat16)).sum().backward()
            (single * fixed).sum().backward()
        assert moving.gradient_norm() == wide.gradient_norm()
        moving.step(step)
        wide.step(step)
    for name, parameter in plain.named_parameters():
        assert torch.equal(moving.weights()[name], parameter)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
def test_state_put_back_goes_on_bit_for_bit(dtype: torch.dtype, kind: str) -> None:
    settings = {"adamw": {"adamw": {"weight_decay": 0.1}}, "sgd": {"sgd": {"momentum": 0.9}}, "muon": "muon"}[kind]
    hidden = frozenset({"0.weight"})

    def fresh() -> tuple[nn.Module, Stepper]:
        model = net(dtype)
        parts = [replace(group, hidden=hidden) for group in groups(model)]
        return model, stepper(model, optimizer=build("optimizers", settings), groups=parts)

    def advance(model: nn.Module, moving: Stepper, first: int, last: int) -> None:
        for step in range(first, last):
            backward(model, step)
            moving.gradient_norm()
            moving.step(step)

    whole, moving = fresh()
    advance(whole, moving, 0, 10)
    half, first = fresh()
    advance(half, first, 0, 5)
    weights = {name: value.clone() for name, value in first.weights().items()}
    state = {name: value.clone() for name, value in first.state().items()}
    rest, second = fresh()
    second.load_weights(weights)
    second.load_state(state)
    advance(rest, second, 5, 10)
    for name, value in moving.weights().items():
        assert torch.equal(value, second.weights()[name]), name
    assert moving.state().keys() == second.state().keys()
    for name, value in moving.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_what_is_frozen_for_now_is_not_moved_and_not_counted() -> None:
    model = net()
    moving = stepper(model)
    model[0].weight.requires_grad_(False)
    start = model[0].weight.detach().clone()
    backward(model, 0)
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert moving.gradient_norm() == pytest.approx(float(expected), rel=1e-6)
    moving.step(0)
    assert torch.equal(model[0].weight, start)
    assert not any(name.startswith("0.weight/") for name in moving.state())


def test_a_parameter_frozen_for_now_still_gets_its_master_later() -> None:
    model = net(torch.bfloat16)
    model[0].weight.requires_grad_(False)
    moving = stepper(model)
    assert not model[0].weight.requires_grad
    model[0].weight.requires_grad_(True)
    before = moving.weights()["0.weight"].clone()
    backward(model, 0)
    moving.gradient_norm()
    moving.step(0)
    assert not torch.equal(moving.weights()["0.weight"], before)


def test_what_was_released_another_stepper_moves() -> None:
    model = net(torch.bfloat16)
    first = stepper(model)
    backward(model, 0)
    first.step(0)
    first.release()
    before = {name: value.clone() for name, value in first.weights().items()}
    second = stepper(model)
    backward(model, 1)
    assert second.gradient_norm() > 0
    second.step(1)
    assert all(torch.equal(first.weights()[name], value) for name, value in before.items())
    assert all(not torch.equal(value, before[name]) for name, value in second.weights().items())


def test_no_gradient_at_all_has_norm_zero() -> None:
    assert stepper(net()).gradient_norm() == 0.0
