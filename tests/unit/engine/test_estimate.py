"""Bytes counted from shapes, against bytes that torch holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_bert, make_llama, make_t5

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.recipe import Machine
from luthier.engine.estimate import estimate, state_bytes, trained_weights
from luthier.engine.kept import activation_bytes, logit_bytes
from luthier.engine.room import make_room
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
    found = estimate(model, chosen, optimizer, tokens=64, lengths=[32], keeps_best=False)
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
    found = estimate(model, full, build("optimizers", "adamw"), tokens=64, lengths=[32], keeps_best=True)
    count = sum(p.numel() for p in model.parameters())
    assert (found.masters, found.gradients, found.best) == (4 * count, 4 * count, 4 * count)
    assert found.total == found.weights + 20 * count + found.activations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_the_mean_of_the_weights_is_counted_as_it_is_held(adaptation: str, dtype: torch.dtype) -> None:
    from luthier.core.recipe import Phase
    from luthier.engine.average import Average
    from luthier.engine.optimize import Stepper

    phase = Phase(objective="mean_teacher", adaptation=adaptation)
    model = phase.adaptation.apply(make_bert().to(dtype))
    one = Stepper(phase.optimizer, phase.schedule, phase.adaptation.groups(model), lr=1e-3, total=1, clip=None)
    average = Average(role_of(model, 0), one, 0.9)
    own = {p.data_ptr() for p in model.parameters()}
    copies = [p for p in average.role.model.parameters() if p.data_ptr() not in own]
    with_it, without = (
        estimate(model, phase.adaptation, phase.optimizer, tokens=64, lengths=[32], keeps_best=False, averages=averages)
        for averages in (True, False)
    )
    assert with_it.average == held(copies) + held(average._means.values())
    assert with_it.total == without.total + with_it.average
    chosen = Machine.model_validate({})
    room = make_room(model, phase, chosen, torch.device("cpu"), [32], validates=False)
    assert room.memory.average == with_it.average


FOUR = (128,) * 4


def kept_by(model: torch.nn.Module, lengths: Sequence[int] = FOUR, objective: str = "causal_lm") -> int:
    """Bytes that autograd keeps of a forward pass over sequences of these lengths, without weights."""
    marks: dict[str, Any] = {"fields": {"label": np.asarray(1)}} if objective == "classify" else {}
    rows = [
        Row(f"r{i}", np.arange(n) % 380 + 5, (np.arange(n) > 0) & (objective != "classify"), **marks)
        for i, n in enumerate(lengths)
    ]
    if objective == "seq2seq":  # of each row a third is the answer
        rows = [
            replace(row, supervised=np.arange(n) > n - n // 3, branches=(n // 3,))
            for row, n in zip(rows, lengths, strict=True)
        ]
    weights = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            # The storage itself is held: a freed address would be counted once for two tensors.
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = build("objectives", objective).loss(Models(role_of(model, 0)), pack(rows))
    assert loss[0].totals.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


LOGITS = logit_bytes(512, 400, 4)


DROPPED = {"lora": {"rank": 4, "dropout": 0.1}}
LENGTHS = {
    "alike": FOUR,
    "one beyond a block": (300, 250, 250, 250),
    "all beyond a block": (500, 400),
    "filled up": (20, 33, 65, 70, 97, 129) * 2,
}
WIDE = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 176}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("adaptation", "changes"),
    [
        ("full", {}),
        ("full", {"attention_dropout": 0.1}),
        ({"lora": {"rank": 4}}, {}),
        ({"lora": {"rank": 4}}, {"hidden_act": "gelu"}),
        ({"lora": {"rank": 4, "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]}}, {}),
        (DROPPED, {}),
        (DROPPED, {"attention_dropout": 0.1}),
    ],
    ids=str,
)
def test_kept_activations_of_a_decoder_are_near_what_autograd_keeps(
    adaptation: object, changes: dict[str, Any], dtype: torch.dtype, lengths: tuple[int, ...]
) -> None:
    model = build("adaptations", adaptation).apply(make_llama(**WIDE, **changes).to(dtype)).train()
    logits = logit_bytes(sum(lengths), 400, dtype.itemsize)
    found = (activation_bytes(model, sum(lengths), lengths) - logits) / kept_by(model, lengths)
    assert 0.99 < found < 1.06


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("adaptation", "changes"), [("full", STILL), ("full", {}), (DROPPED, {})], ids=str)
def test_kept_activations_of_an_encoder_are_near_what_autograd_keeps(
    adaptation: object, changes: dict[str, Any], dtype: torch.dtype, lengths: tuple[int, ...]
) -> None:
    made = make_bert(num_hidden_layers=4, max_position_embeddings=512, **changes)
    model = build("adaptations", adaptation).apply(made.to(dtype)).train()
    found = activation_bytes(model, sum(lengths), lengths) / kept_by(model, lengths, "classify")
    assert 0.98 < found < 1.03


@pytest.mark.parametrize("lengths", [LENGTHS["alike"], LENGTHS["one beyond a block"], LENGTHS["filled up"]], ids=str)
@pytest.mark.parametrize(
    ("adaptation", "dtype", "changes"),
    [
        ("full", torch.float32, {"dropout_rate": 0.1}),
        ("full", torch.bfloat16, {"dropout_rate": 0.1}),
        ("full", torch.float32, {"feed_forward_proj": "gated-gelu"}),
        (DROPPED, torch.bfloat16, {"dropout_rate": 0.1}),
        ("lora", torch.float32, {}),
    ],
    ids=str,
)
def test_kept_activations_of_an_encoder_decoder_are_at_most_the_estimate(
    adaptation: object, dtype: torch.dtype, changes: dict[str, Any], lengths: tuple[int, ...]
) -> None:
    wide = {"num_layers": 4, "d_model": 64, "d_ff": 176, "d_kv": 16}
    model = build("adaptations", adaptation).apply(make_t5(**wide, **changes).to(dtype)).train()
    role_of(model, 0).logps(pack([Row("r", np.arange(8) + 5, np.arange(8) > 5, branches=(3,))]))  # probes once
    found = activation_bytes(model, sum(lengths), lengths) / kept_by(model, lengths, "seq2seq")
    assert 1 < found < 2.5


def test_a_micro_batch_is_taken_to_hold_the_rows_that_keep_most() -> None:
    """Beyond a block attention keeps no weights; below, those of a row grow with the square of its length."""
    model = make_llama(**WIDE)

    def blocks(tokens: int, lengths: Sequence[int]) -> int:
        return activation_bytes(model, tokens, lengths) - activation_bytes(model, tokens, lengths, learning=0)

    many = [16] * 1000 + [250] * 2 + [500]
    assert blocks(500, many) == blocks(500, [250]) == blocks(500, [250] * 100)
    assert blocks(1000, many) == blocks(500, [250]) + blocks(500, [16])
    assert blocks(500, [500]) < blocks(500, [16]) < blocks(500, [250])


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_blocks_that_are_computed_again_keep_their_inputs_alone(adaptation: str) -> None:
    """Of 12 blocks an eighth stays; the estimate adds the one block that the backward pass is at."""
    model = build("adaptations", adaptation).apply(make_llama(num_hidden_layers=12, hidden_size=64))
    without, model = kept_by(model), recompute(model).train()
    one = activation_bytes(model, 512, FOUR, learning=1) - activation_bytes(model, 512, FOUR, learning=0)
    kept = kept_by(model)
    assert kept < without / 8
    assert activation_bytes(model, 512, FOUR, recomputes=True) - LOGITS - one == pytest.approx(kept, rel=0.2)


@pytest.mark.parametrize(
    ("adaptation", "learning"),
    [("full", 4), ("lora", 4), ({"frozen": {"train": "last:1"}}, 1), ({"lora": {"layers": [2, 3]}}, 2)],
    ids=str,
)
def test_blocks_below_the_first_that_trains_keep_nothing(adaptation: object, learning: int) -> None:
    chosen = build("adaptations", adaptation)
    model = chosen.apply(make_llama(num_hidden_layers=4))
    found = estimate(model, chosen, build("optimizers", "adamw"), tokens=512, lengths=FOUR, keeps_best=False)
    assert found.activations == activation_bytes(model, 512, FOUR, learning=learning)
    assert found.activations - LOGITS == pytest.approx(kept_by(model), rel=0.12)


def test_a_head_alone_keeps_no_block() -> None:
    head = build("adaptations", "head")
    model = head.apply(make_bert())
    found = estimate(model, head, build("optimizers", "adamw"), tokens=512, lengths=FOUR, keeps_best=False)
    assert found.activations == 0
