"""Whatever is packed, in whatever order and cuts: loss and gradients are those of each row alone in plain transformers.

The reference runs every row by itself, unpadded, through a model that luthier never touched, sums a plain cross-entropy
and divides once. In float64 the two agree to its rounding, so that no leak or weight is too small to be seen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.engine.step import accumulate
from luthier.functional.packing import pack
from luthier.models.roles import Models, role_of

VOCABULARY, LONGEST, PAD = 96, 90, 0
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
    "pad_token_id": PAD,
}
GROUPED = SIZE | {"num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 2}
DECODERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "mistral-window": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=7)),
}
ENCODERS: dict[str, Callable[[], Any]] = {
    "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**SIZE, num_labels=3)),
    "modernbert-window": lambda: hf.ModernBertForSequenceClassification(
        hf.ModernBertConfig(**SIZE, num_labels=3, local_attention=80, global_attn_every_n_layers=2, cls_token_id=1)
    ),
}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5}
"""Shares of the largest entry: of a parameter's gradient, or of a hundredth of all gradients where that is more."""


class ExactNorm(LlamaRMSNorm):
    """The formula in the dtype that comes in: transformers' own computes in float32 even for float64."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        mean = hidden_states.square().mean(-1, keepdim=True)
        return self.weight * hidden_states / (mean + self.variance_epsilon).sqrt()


@cache
def pair(name: str, adaptation: str, dtype: torch.dtype) -> tuple[nn.Module, Models]:
    """The reference and the role of two equal models, with weights that are large enough for a leak to show."""
    torch.manual_seed(0)
    model = (DECODERS | ENCODERS)[name]().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn(parameter.shape, generator=generator)
    model = build("adaptations", {"lora": {"rank": 3}} if adaptation == "lora" else adaptation).apply(model)
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    model = model.to(dtype)
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if isinstance(module, Linear):
            module.__class__ = Linear  # PEFT's own layer again
        elif dtype == torch.float64 and type(module) in (LlamaRMSNorm, MistralRMSNorm):
            module.__class__ = ExactNorm
    plain.config._attn_implementation = "sdpa" if dtype == torch.float64 else "eager"
    role = role_of(model, PAD)
    assert role.packed
    assert "luthier" not in str(plain.config._attn_implementation)
    return plain, Models(role)


@dataclass(frozen=True)
class Case:
    """Rows in the order in which they are packed, cut into micro-batches of these sizes."""

    rows: list[Row]
    sizes: list[int]

    def batches(self) -> list[Any]:
        ends = np.cumsum([0, *self.sizes])
        return [pack(self.rows[low:high]) for low, high in pairwise(ends)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """1 to 9 rows of 1 to 90 tokens, any of them supervised but a row's first, any cuts."""
    lengths = draw(st.lists(st.one_of(st.integers(1, 6), st.integers(1, LONGEST)), min_size=1, max_size=9))
    shares = draw(st.lists(st.sampled_from([0.0, 0.1, 0.7, 1.0]), min_size=len(lengths), max_size=len(lengths)))
    weights = draw(st.lists(st.sampled_from([1.0, 1.0, 0.5, 3.0, 0.0]), min_size=len(lengths), max_size=len(lengths)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for number, (length, share, weight) in enumerate(zip(lengths, shares, weights, strict=True)):
        marks = (random.random(length) < share) & (np.arange(length) > 0)
        label = np.asarray(int(random.integers(3)))
        rows.append(
            Row(f"row-{number}", random.integers(3, VOCABULARY, length), marks, weight, fields={"label": label})
        )
    sizes: list[int] = []
    while sum(sizes) < len(rows):
        sizes.append(draw(st.integers(1, len(rows) - sum(sizes))))
    return Case(rows, sizes)


def reference(model: nn.Module, rows: list[Row], classes: bool) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of each row alone: cross-entropies summed, and divided once by what all rows count."""
    total, count = torch.zeros((), dtype=torch.float64), 0.0
    for row in rows:
        ids = torch.from_numpy(row.ids)
        logits = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits[0]
        if classes:
            loss, counted = functional.cross_entropy(logits, torch.from_numpy(row.fields["label"])), 1
        else:
            marks = torch.from_numpy(row.supervised)
            loss = functional.cross_entropy(logits[:-1][marks[1:]], ids[marks], reduction="sum")
            counted = int(marks.sum())
        total, count = total + row.weight * loss, count + row.weight * counted
    loss = total / count if count else total * 0
    loss.backward()
    return loss.item(), taken(model)


def taken(model: nn.Module) -> dict[str, Tensor]:
    """The gradients, cleared from the model."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def check(name: str, adaptation: str, dtype: torch.dtype, case: Case) -> None:
    plain, models = pair(name, adaptation, dtype)
    classes, share = name in ENCODERS, TOLERANCES[dtype]
    objective = build("objectives", "classify" if classes else "causal_lm")
    rows = [row if not classes else replace(row, supervised=np.zeros_like(row.supervised)) for row in case.rows]
    wanted_loss, wanted = reference(plain, rows, classes)
    found_loss = accumulate(objective, (), models, Case(rows, case.sizes).batches()).loss
    found = taken(models.policy.model)
    assert found_loss == pytest.approx(wanted_loss, rel=share, abs=share)
    assert set(found) == {key for key, p in models.policy.model.named_parameters() if p.requires_grad}
    largest = max(float(value.abs().max()) for value in wanted.values())
    for key, gradient in found.items():
        reach = max(float(wanted[key].abs().max()), largest / 100)
        assert float((gradient - wanted[key]).abs().max()) <= share * reach, key


each = pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
adapted = pytest.mark.parametrize("adaptation", ["full", "lora"])


@each
@adapted
@given(case=cases())
@settings(max_examples=15, deadline=None)
def test_any_packing_gives_loss_and_gradients_of_rows_alone_in_float64(name: str, adaptation: str, case: Case) -> None:
    check(name, adaptation, torch.float64, case)


@each
@adapted
@given(case=cases())
@settings(max_examples=6, deadline=None)
def test_any_packing_gives_them_to_the_rounding_of_float32_beside_eager_attention(
    name: str, adaptation: str, case: Case
) -> None:
    check(name, adaptation, torch.float32, case)
