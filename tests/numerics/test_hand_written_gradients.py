"""Every hand-written backward pass: gradients of input, weight and bias under every reduction, against float64.

Each is held against plain torch on the same numbers, for every choice of what is frozen, under the reductions that a
loss may make of it: sums, means, sums of sequences by weight over a count, and nothing supervised at all. A backward
pass without a case here fails a test. Why: Liger#1298 was silently wrong under one reduction.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from numerics.test_attention import plain as plain_attention
from torch import Tensor
from torch.nn import functional as F

import luthier
from luthier.functional.adapters import Bottleneck
from luthier.functional.attention import packed_attention
from luthier.functional.dropout import dropout, keep_mask
from luthier.functional.embedding import embedding
from luthier.functional.gated import gated as gated_block
from luthier.functional.layer_norm import layer_norm
from luthier.functional.logprobs import token_logps, token_logps_through
from luthier.functional.low_rank import low_rank_linear
from luthier.functional.low_rank_gated import LowRank, low_rank_gated
from luthier.functional.norm import rms_norm
from luthier.functional.packing import segment_sum, sequence_index
from luthier.functional.quantized import quantize, quantized_linear

TOKENS, WIDE, OUT, RANK, VOCABULARY, HEADS, KEY_HEADS = 13, 6, 5, 3, 17, 4, 2
STARTS = torch.tensor([0, 4, 5, 13], dtype=torch.int32)
TARGETS = torch.randint(0, VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(3))
NUMBERS = torch.tensor([0, 3, 3, 6, 2, 3, 0, 2, 5, 3, 3, 0, 6])
CODES = quantize(torch.randn(OUT, WIDE, generator=torch.Generator().manual_seed(7)), "int8")
RATE, SEED = 0.25, 11

Leaves = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A function, and its formula in plain torch: both give [TOKENS, ...] of named tensors; backward: whose it is."""

    backward: str
    shapes: Mapping[str, tuple[int, ...]]
    fused: Callable[[Leaves], Tensor]
    plain: Callable[[Leaves], Tensor]

    def leaves(self, dtype: torch.dtype = torch.float64) -> Leaves:
        generator = torch.Generator().manual_seed(5)
        drawn = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in self.shapes.items()}
        return {name: tensor.to(dtype) for name, tensor in drawn.items()}


def seeded(run: Callable[[Leaves], Tensor]) -> Callable[[Leaves], Tensor]:
    """With the same random numbers at every call."""

    def again(leaves: Leaves) -> Tensor:
        torch.manual_seed(SEED)
        return run(leaves)

    return again


def dropped(x: Tensor) -> Tensor:
    torch.manual_seed(SEED)
    return x * keep_mask(x.shape, RATE, x.device) / (1 - RATE)


def logps(leaves: Leaves, **options: Any) -> Tensor:
    return token_logps(leaves["input"], leaves["weight"], TARGETS, bias=leaves.get("bias"), **options)


def plain_logps(leaves: Leaves, softcap: float | None = None, scale: float = 1.0, smoothing: float = 0.0) -> Tensor:
    logits = F.linear(leaves["input"], leaves["weight"], leaves.get("bias")) * scale
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    return -F.cross_entropy(logits, TARGETS, reduction="none", label_smoothing=smoothing)


def adapted_logps(leaves: Leaves) -> Tensor:
    def head(hidden: Tensor) -> Tensor:
        return F.linear(hidden, leaves["weight"], leaves["bias"])

    return token_logps_through(head, leaves["input"], TARGETS, vocabulary=VOCABULARY, smoothing=0.1)


def low_rank(leaves: Leaves, rate: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(8)
    weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((OUT, WIDE), (OUT,)))
    x = leaves["input"]
    return low_rank_linear(x, weight.to(x), bias.to(x), leaves["down"], leaves["up"], 1.7, rate)


def plain_low_rank(leaves: Leaves, rate: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(8)
    weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((OUT, WIDE), (OUT,)))
    x = leaves["input"]
    fed = dropped(x) if rate else x
    return F.linear(x, weight, bias) + 1.7 * (fed @ leaves["down"].T @ leaves["up"].T)


def frozen_layers(like: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    shapes = ((OUT, WIDE), (OUT, WIDE), (WIDE, OUT))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(like) for shape in shapes]


def factors(leaves: Leaves) -> list[tuple[Tensor, Tensor, float]]:
    return [(leaves[f"{name}_down"], leaves[f"{name}_up"], scale) for name, scale in GATED.items()]


def gated(leaves: Leaves) -> Tensor:
    weights = frozen_layers(leaves["input"])
    parts = [LowRank(weight, *part) for weight, part in zip(weights, factors(leaves), strict=True)]
    return low_rank_gated(leaves["input"], *parts)


def plain_gated(leaves: Leaves) -> Tensor:
    def layer(x: Tensor, at: int) -> Tensor:
        down, up, scale = factors(leaves)[at]
        return F.linear(x, frozen_layers(x)[at]) + scale * (x @ down.T @ up.T)

    x = leaves["input"]
    return layer(F.silu(layer(x, 0)) * layer(x, 1), 2)


def attention(leaves: Leaves, **options: Any) -> Tensor:
    heads = (leaves[name] for name in ("query", "key", "value"))
    return packed_attention(*heads, STARTS, scaling=0.4, sinks=leaves.get("sinks"), **options)


def reference_attention(leaves: Leaves, **options: Any) -> Tensor:
    heads = (leaves[name] for name in ("query", "key", "value"))
    return plain_attention(*heads, STARTS, scaling=0.4, sinks=leaves.get("sinks"), **options)


def bottleneck(leaves: Leaves) -> Tensor:
    module = Bottleneck(WIDE, RANK, "gelu").to(leaves["input"].dtype)
    given = {name.replace("_", "."): value for name, value in leaves.items() if name != "input"}
    return torch.func.functional_call(module, given, (leaves["input"],))


def plain_bottleneck(leaves: Leaves) -> Tensor:
    narrow = F.gelu(F.linear(leaves["input"], leaves["down_weight"], leaves["down_bias"]))
    return leaves["input"] + F.linear(narrow, leaves["up_weight"], leaves["up_bias"])


INPUT = {"input": (TOKENS, WIDE)}
OUTPUT_LAYER = INPUT | {"weight": (VOCABULARY, WIDE)}
WITH_BIAS = OUTPUT_LAYER | {"bias": (VOCABULARY,)}
FACTORS = INPUT | {"down": (RANK, WIDE), "up": (OUT, RANK)}
GATED = {"gate": 1.7, "up": 0.6, "last": 0.3}
GATED_FACTORS = INPUT | {
    "gate_down": (RANK, WIDE),
    "gate_up": (OUT, RANK),
    "up_down": (RANK + 1, WIDE),
    "up_up": (OUT, RANK + 1),
    "last_down": (RANK, OUT),
    "last_up": (WIDE, RANK),
}
ATTENDED = {"query": (TOKENS, HEADS, 4), "key": (TOKENS, KEY_HEADS, 4), "value": (TOKENS, KEY_HEADS, 3)}
ADAPTER = INPUT | {
    "down_weight": (RANK, WIDE),
    "down_bias": (RANK,),
    "up_weight": (WIDE, RANK),
    "up_bias": (WIDE,),
}

CASES = {
    "norm": Case(
        "_RmsNorm",
        INPUT | {"weight": (WIDE,)},
        lambda given: rms_norm(given["input"], given["weight"], 1e-3),
        lambda given: given["weight"] * F.rms_norm(given["input"], (WIDE,), eps=1e-3),
    ),
    "layer-norm": Case(
        "_LayerNorm",
        INPUT | {"weight": (WIDE,), "bias": (WIDE,)},
        lambda given: layer_norm(given["input"], given["weight"], given["bias"], 1e-3),
        lambda given: F.layer_norm(given["input"], (WIDE,), given["weight"], given["bias"], 1e-3),
    ),
    "embedding": Case(
        "_Embedding",
        {"table": (7, WIDE)},
        lambda given: embedding(NUMBERS, given["table"]),
        lambda given: F.embedding(NUMBERS, given["table"]),
    ),
    "int8": Case(
        "_QuantizedLinear",
        INPUT,
        lambda given: quantized_linear(given["input"], CODES, None),
        lambda given: given["input"] @ CODES.dense(given["input"].dtype).T,
    ),
    "dropout": Case(
        "_Dropout", INPUT, seeded(lambda given: dropout(given["input"], RATE)), lambda given: dropped(given["input"])
    ),
    "low-rank": Case("_LowRankLinear", FACTORS, low_rank, plain_low_rank),
    "low-rank-dropout": Case(
        "_LowRankLinear",
        FACTORS,
        seeded(lambda given: low_rank(given, RATE)),
        lambda given: plain_low_rank(given, RATE),
    ),
    "gated": Case(
        "_Gated",
        {"input": (TOKENS, WIDE), "gate": (OUT, WIDE), "up": (OUT, WIDE), "down": (WIDE, OUT)},
        lambda x: gated_block(x["input"], x["gate"], x["up"], x["down"]),
        lambda x: (F.silu(x["input"] @ x["gate"].T) * (x["input"] @ x["up"].T)) @ x["down"].T,
    ),
    "low-rank-gated": Case("_LowRankGated", GATED_FACTORS, gated, plain_gated),
    "logps": Case("_TokenLogps", OUTPUT_LAYER, lambda given: logps(given, chunk=4), plain_logps),
    "logps-bias": Case(
        "_TokenLogps",
        WITH_BIAS,
        lambda given: logps(given, chunk=4, softcap=2.0, scale=0.6, smoothing=0.1),
        lambda given: plain_logps(given, 2.0, 0.6, 0.1),
    ),
    "logps-alike": Case("_TokenLogps", WITH_BIAS, lambda given: logps(given, chunk=4, alike=True), plain_logps),
    "logps-adapted": Case("", WITH_BIAS, adapted_logps, lambda given: plain_logps(given, smoothing=0.1)),
    "attention-causal": Case(
        "_PackedAttention",
        ATTENDED,
        lambda given: attention(given, causal=True),
        lambda given: reference_attention(given, causal=True),
    ),
    "attention-sinks": Case(
        "_PackedAttention",
        ATTENDED | {"sinks": (HEADS,)},
        lambda given: attention(given, causal=True, window=3, softcap=2.0),
        lambda given: reference_attention(given, causal=True, window=3, softcap=2.0),
    ),
    "attention-both-ways": Case(
        "_PackedAttention",
        ATTENDED,
        lambda given: attention(given, causal=False, window=2),
        lambda given: reference_attention(given, causal=False, window=2),
    ),
    "bottleneck": Case("", ADAPTER, bottleneck, plain_bottleneck),
}

# ---- reductions: how a loss makes one number of [TOKENS, ...] --------------------------------------------------------


def contract(values: Tensor, supervised: Tensor, weights: Tensor) -> Tensor:
    """The engine's own: sums by sequence, times the rows' weights, divided once by the count."""
    index = sequence_index(STARTS)[supervised]
    totals = segment_sum(values.flatten(1).sum(1)[supervised] if values.dim() > 1 else values[supervised], index, 3)
    count = (segment_sum(supervised.to(weights.dtype), sequence_index(STARTS), 3) * weights).sum()
    return (totals * weights).sum() / count.clamp_min(1e-12)


SOME = torch.tensor([position % 3 > 0 for position in range(TOKENS)])
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda y: y.sum(),
    "mean": lambda y: y.mean(),
    "none": lambda y: (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum(),
    "contract": lambda y: contract(y, SOME, torch.tensor([1.0, 0.5, 2.0], dtype=y.dtype)),
    "one sequence": lambda y: contract(y, SOME, torch.tensor([0.0, 0.0, 1.0], dtype=y.dtype)),
    "nothing supervised": lambda y: contract(y, torch.zeros_like(SOME), torch.ones(3, dtype=y.dtype)),
}


def gradients(
    run: Callable[[Leaves], Tensor], leaves: Leaves, trained: tuple[str, ...], reduction: str
) -> dict[str, Tensor]:
    given = {name: value.clone().requires_grad_(name in trained) for name, value in leaves.items()}
    REDUCTIONS[reduction](run(given)).backward()
    return {name: value.grad for name, value in given.items() if value.grad is not None}


each = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
reduced = pytest.mark.parametrize("reduction", REDUCTIONS)


@each
@reduced
def test_gradients_under_every_reduction_and_choice_of_what_is_frozen(case: Case, reduction: str) -> None:
    leaves = case.leaves()
    torch.testing.assert_close(case.fused(leaves), case.plain(leaves), rtol=0, atol=1e-13)
    wanted = gradients(case.plain, leaves, tuple(leaves), reduction)
    assert reduction != "nothing supervised" or not any(value.any() for value in wanted.values())
    for count in range(1, len(leaves) + 1):
        for trained in itertools.combinations(leaves, count):
            found = gradients(case.fused, leaves, trained, reduction)
            assert set(found) == set(trained), "what is frozen gets no gradient, all else gets one"
            for name in trained:
                torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-12, msg=f"{name} of {trained}")


@each
@reduced
def test_gradients_in_float32_are_those_of_float64_but_for_rounding(case: Case, reduction: str) -> None:
    leaves = case.leaves(torch.float32)
    exact = gradients(case.plain, {name: value.double() for name, value in leaves.items()}, tuple(leaves), reduction)
    for name, found in gradients(case.fused, leaves, tuple(leaves), reduction).items():
        assert found.dtype == torch.float32
        assert float((found.double() - exact[name]).norm()) <= 2e-6 * float(exact[name].norm()), name


@each
def test_gradients_are_the_functions_own_slopes(case: Case) -> None:
    """Finite differences: independent of the formula that the others compare with."""
    leaves = {name: value.requires_grad_() for name, value in case.leaves().items()}
    names = tuple(leaves)
    assert torch.autograd.gradcheck(
        lambda *given: case.fused(dict(zip(names, given, strict=True))), tuple(leaves.values())
    )


def test_every_backward_pass_has_a_case() -> None:
    source = Path(luthier.__file__).parent
    imported = [path for path in source.rglob("*.py") if "torch.autograd.Function" in path.read_text(encoding="utf-8")]
    assert {path.parent.name for path in imported} == {"functional"}, "mathematics lives in functional/"
    found = {one.__name__ for one in torch.autograd.Function.__subclasses__() if one.__module__.startswith("luthier.")}
    assert len(found) >= len(imported)
    assert found == {case.backward for case in CASES.values()} - {""}
