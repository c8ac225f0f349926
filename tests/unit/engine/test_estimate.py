"""Bytes counted from shapes, against bytes that torch holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import make_bert, make_llama

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.engine.estimate import activation_bytes, estimate, logit_bytes, state_bytes, trained_weights
from luthier.functional.packing import pack
from luthier.models.recompute import recompute
from luthier.models.roles import Models, role_of


def held(tensors: object) -> int:
    return sum(t.untyped_storage().nbytes() for t in {t.data_ptr(): t for t in tensors}.values())


@pytest.mark.parametrize(("optimizer", "expected"), [("adamw", 8), ("sgd", 0), ({"sgd": {"momentum": 0.9}}, 4)])
def test_bytes_of_optimizer_state_for_each_weight(optimizer: object, expected: int) -> None:
    assert state_bytes(build("optimizers", optimizer)) == expected


@pytest.mark.parametrize("adaptation", ["full", "lora", {"frozen": {"train": 1}}])
def test_held_memory_equals_what_torch_holds_after_a_step(llama: torch.nn.Module, adaptation: object) -> None:
    chosen = build("adaptations", adaptation)
    model = chosen.apply(llama)
    optimizer = build("optimizers", "adamw")
    found = estimate(model, chosen, optimizer, tokens=64, length=32, keeps_best=False)
    trained = [p for group in chosen.groups(model) for _, p in group.parameters]
    made = optimizer.make([{"params": trained, "lr": 1e-3, "weight_decay": 0.0}])
    model(input_ids=torch.arange(5, 25)[None], labels=torch.arange(5, 25)[None]).loss.backward()
    made.step()
    assert found.weights == held([*model.parameters(), *model.buffers()])
    assert found.gradients == sum(p.grad.nbytes for p in trained)
    assert found.optimizer == sum(v.nbytes for p in trained for v in made.state[p].values() if v.dim())
    assert found.masters == 0
    assert trained_weights(model, chosen) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_bfloat16_weights_get_float32_masters(llama: torch.nn.Module) -> None:
    full = build("adaptations", "full")
    model = full.apply(llama.bfloat16())
    found = estimate(model, full, build("optimizers", "adamw"), tokens=64, length=32, keeps_best=True)
    count = sum(p.numel() for p in model.parameters())
    assert (found.masters, found.gradients, found.best) == (4 * count, 4 * count, 4 * count)
    assert found.total == found.weights + 20 * count + found.activations


def kept_by(model: torch.nn.Module) -> int:
    """Bytes that autograd keeps of a forward pass over four sequences of 128 tokens, without weights."""
    rows = [Row(f"r{i}", np.arange(5, 133), np.arange(128) > 0) for i in range(4)]
    weights = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            # The storage itself is held: a freed address would be counted once for two tensors.
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = build("objectives", "causal_lm").loss(Models(role_of(model, 0)), pack(rows))
    assert loss[0].totals.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


LOGITS = logit_bytes(512, 400, 4)


@pytest.mark.parametrize("adaptation", ["full", "lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_activations_are_near_what_autograd_keeps(
    llama: torch.nn.Module, adaptation: str, dtype: torch.dtype
) -> None:
    model = build("adaptations", adaptation).apply(llama.to(dtype))
    logits = logit_bytes(512, 400, dtype.itemsize)
    assert activation_bytes(model, 512, 128) - logits == pytest.approx(kept_by(model), rel=0.12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bottleneck_copies_nothing_in_another_dtype(llama: torch.nn.Module, dtype: torch.dtype) -> None:
    """The frozen rest keeps less than the formula says of a block, and the bottlenecks' share fits into that."""
    model = build("adaptations", {"bottleneck": {"placement": "houlsby"}}).apply(llama.to(dtype))
    kept, estimated = kept_by(model), activation_bytes(model, 512, 128) - logit_bytes(512, 400, dtype.itemsize)
    assert kept <= estimated <= 1.7 * kept


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_blocks_that_are_computed_again_keep_their_inputs_alone(adaptation: str) -> None:
    """Of 12 blocks an eighth stays; the estimate adds the one block that the backward pass is at."""
    model = build("adaptations", adaptation).apply(make_llama(num_hidden_layers=12, hidden_size=64))
    without, model = kept_by(model), recompute(model).train()
    one = activation_bytes(model, 512, 128, learning=1) - activation_bytes(model, 512, 128, learning=0)
    kept = kept_by(model)
    assert kept < without / 8
    assert activation_bytes(model, 512, 128, recomputes=True) - LOGITS - one == pytest.approx(kept, rel=0.2)


@pytest.mark.parametrize(
    ("adaptation", "learning"),
    [("full", 4), ("lora", 4), ({"frozen": {"train": "last:1"}}, 1), ({"lora": {"layers": [2, 3]}}, 2)],
    ids=str,
)
def test_blocks_below_the_first_that_trains_keep_nothing(adaptation: object, learning: int) -> None:
    chosen = build("adaptations", adaptation)
    model = chosen.apply(make_llama(num_hidden_layers=4))
    found = estimate(model, chosen, build("optimizers", "adamw"), tokens=512, length=128, keeps_best=False)
    assert found.activations == activation_bytes(model, 512, 128, learning=learning)
    assert found.activations - LOGITS == pytest.approx(kept_by(model), rel=0.12)


def test_a_head_alone_keeps_no_block() -> None:
    head = build("adaptations", "head")
    model = head.apply(make_bert())
    found = estimate(model, head, build("optimizers", "adamw"), tokens=512, length=128, keeps_best=False)
    assert found.activations == 0
