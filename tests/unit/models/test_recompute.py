"""Blocks computed again give the bits that they gave, and the backward pass ends where it ended without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_runs import row, uneven_rows
from tiny import make_bert, make_llama

from luthier.core.component import build
from luthier.core.contracts import Adaptation, Batch
from luthier.functional.packing import pack
from luthier.models.recompute import can_recompute, recompute
from luthier.models.roles import Models, Role, role_of

ADAPTATIONS = ("full", {"lora": {"rank": 4, "dropout": 0.2}}, {"frozen": {"train": "last:1"}}, "bottleneck")


def learn(
    adaptation: object, language: bool, recomputes: bool, *, packed: bool = True, noise: float = 0.0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch with dropout, and all gradients by name."""
    chosen: Adaptation = build("adaptations", adaptation)  # type: ignore[assignment]
    torch.manual_seed(0)
    model = chosen.apply(make_llama(attention_dropout=0.1) if language else make_bert())
    role = role_of(model, 0) if packed else Role(model, 0, None)
    role.embedding_noise = noise
    assert role.packed is packed
    if recomputes:
        recompute(model)
    model.train()
    torch.manual_seed(7)
    objective: Any = build("objectives", "causal_lm" if language else "classify")
    loss = objective.loss(Models(role), pack(uneven_rows()) if language else classes())[0].totals.sum()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def classes() -> Batch:
    return pack([row(f"r{i}", 5 + i, 0, seed=i, fields={"label": torch.tensor(i % 3).numpy()}) for i in range(6)])


def same(one: Any, other: Any) -> bool:
    return (
        torch.equal(one[0], other[0])
        and one[1].keys() == other[1].keys()
        and all(torch.equal(gradient, other[1][name]) for name, gradient in one[1].items())
    )


@pytest.mark.parametrize("language", [True, False], ids=["llama", "bert"])
@pytest.mark.parametrize("adaptation", ADAPTATIONS, ids=str)
def test_loss_and_gradients_have_the_bits_that_they_have_without(adaptation: object, language: bool) -> None:
    """With dropout in attention, hidden states and LoRA: it must be drawn again as it was."""
    plain = learn(adaptation, language, False)
    assert plain[1]
    assert same(plain, learn(adaptation, language, True))


@pytest.mark.parametrize("language", [True, False], ids=["llama", "bert"])
def test_padded_models_and_noise_on_embeddings_too(language: bool) -> None:
    options = {"packed": False, "noise": 5.0}
    assert same(learn("full", language, False, **options), learn("full", language, True, **options))  # type: ignore[arg-type]


def test_frozen_blocks_are_not_computed_again() -> None:
    """transformers' own switch gives embeddings a gradient, and with it every block below those that train."""
    chosen = build("adaptations", {"frozen": {"train": "last:1"}})
    model = recompute(chosen.apply(make_llama(num_hidden_layers=3)))  # type: ignore[attr-defined]
    calls = [0, 0, 0]
    for number, block in enumerate(model.model.layers):
        block.self_attn.register_forward_pre_hook(
            lambda *_, number=number: calls.__setitem__(number, calls[number] + 1)
        )
    role = role_of(model, 0)
    model.train()
    calls[:] = [0, 0, 0]
    objective: Any = build("objectives", "causal_lm")
    objective.loss(Models(role), pack(uneven_rows()))[0].totals.sum().backward()
    assert calls == [1, 1, 2]


def test_nothing_is_computed_again_without_training() -> None:
    model = recompute(make_llama())
    role = role_of(model, 0)
    wanted = role_of(make_llama(), 0).logps(pack(uneven_rows()))
    assert torch.equal(role.logps(pack(uneven_rows())), wanted)


def test_a_model_says_whether_it_can() -> None:
    class Closed(type(make_llama())):  # type: ignore[misc]
        supports_gradient_checkpointing = False

    model = make_llama()
    assert can_recompute(build("adaptations", "lora").apply(model))  # type: ignore[attr-defined]
    model.__class__ = Closed
    assert not can_recompute(model)
