"""FlashAttention is used where it gives what batched products give, and nowhere else.

No test machine need have CUDA: torch's function is replaced by one that does, on the CPU, what its documentation says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from luthier.functional import flash
from luthier.functional.attention import packed_attention

STARTS = torch.tensor([0, 7, 30, 31, 64], dtype=torch.int32)


def documented(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    key_starts: Tensor,
    longest: int,
    longest_key: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """varlen_attn as torch documents it, sequence by sequence."""
    assert starts.dtype == torch.int32
    assert longest == longest_key == int(starts.diff().max())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert torch.equal(starts, key_starts)
    group, (left, right) = query.shape[1] // key.shape[1], window_size
    parts = []
    for begin, end in zip(starts.tolist(), starts[1:].tolist(), strict=False):
        q, k, v = (x[begin:end].float().transpose(0, 1) for x in (query, key, value))
        k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
        scores = q @ k.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        away = torch.arange(end - begin)[None] - torch.arange(end - begin)[:, None]
        hidden = (away < -left if left >= 0 else away < -(10**9)) | (away > right if right >= 0 else away > 10**9)
        parts.append((scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts).to(query.dtype)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of calls to torch's function, which is there on the CPU."""
    found: list[tuple[int, ...]] = []

    def counted(*arguments: Any, **options: Any) -> Tensor:
        found.append(tuple(arguments[0].shape))
        return documented(*arguments, **options)

    monkeypatch.setattr(varlen, "varlen_attn", counted)
    monkeypatch.setattr(flash, "_DEVICE", "cpu")
    monkeypatch.setattr(flash, "_known", {})
    return found


def given(dtype: torch.dtype = torch.bfloat16, heads: int = 4, key_heads: int = 2) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = ((64, heads, 16), (64, key_heads, 16), (64, key_heads, 16))
    return [torch.randn(*shape, generator=draw).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("key_heads", [2, 4])
def test_outputs_and_gradients_are_those_of_the_products(
    calls: list[tuple[int, ...]], causal: bool, window: int | None, key_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = given(key_heads=key_heads)
    options: dict[str, Any] = {"scaling": 0.3, "causal": causal, "window": window}
    found = packed_attention(*inputs, STARTS, **options)
    assert calls == [(60, 4, 16), (64, 4, 16)]  # the probe, and the call
    monkeypatch.setattr(flash, "_DEVICE", "cuda")
    wanted = packed_attention(*inputs, STARTS, **options)
    assert len(calls) == 2
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).to(found.dtype)
    pairs = zip(
        [found, *torch.autograd.grad(found, inputs, upstream)],
        [wanted, *torch.autograd.grad(wanted, inputs, upstream)],
        strict=True,
    )
    for ours, other in pairs:
        assert (ours.float() - other.float()).norm() < 2e-2 * other.float().norm()


def test_the_probe_runs_once_for_a_kind_of_call_and_draws_nothing(calls: list[tuple[int, ...]]) -> None:
    inputs = given()
    before = torch.get_rng_state()
    with torch.inference_mode():
        for _ in range(3):
            packed_attention(*inputs, STARTS, scaling=0.3, causal=True)
    packed_attention(*inputs, STARTS, scaling=0.3, causal=False)
    assert [shape[0] for shape in calls] == [60, 64, 64, 64, 60, 64]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("lengths", [[5, 5], [5]])
def test_sequences_none_of_which_branches_are_a_plain_pack(calls: list[tuple[int, ...]], lengths: list[int]) -> None:
    """Rows that branch come as copies on CUDA: one entry for each, all of them empty, and the probe has more."""
    starts = torch.tensor([0, *lengths]).cumsum(0)
    inputs = [x[: int(starts[-1])] for x in given()]
    found = packed_attention(*inputs, starts, scaling=0.3, causal=True, branches=((),) * len(lengths))
    assert torch.equal(found, packed_attention(*inputs, starts, scaling=0.3, causal=True))
    assert len(calls) == 3
    assert list(flash._known.values()) == [True]


class _Keeping(torch.autograd.Function):
    """Nothing but a backward pass that wants the boundaries, as torch's does."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(starts)
        return query.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], None


def test_a_pack_that_was_seen_in_an_answer_trains(
    calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def keeping(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, *rest: Any, **options: Any) -> Tensor:
        return documented(_Keeping.apply(query, starts), key, value, starts, *rest, **options)

    monkeypatch.setattr(varlen, "varlen_attn", keeping)
    inputs = given()
    starts = torch.tensor([0, 9, 64], dtype=torch.int32)
    with torch.inference_mode():
        packed_attention(*inputs, starts, scaling=0.3, causal=True)
    packed_attention(*inputs, starts, scaling=0.3, causal=True).sum().backward()
    assert all(x.grad is not None for x in inputs)


def raising(error: Exception) -> Callable[..., Tensor]:
    def attend(*arguments: Any, **options: Any) -> Tensor:
        raise error

    return attend


def blind_to_windows(*arguments: Any, **options: Any) -> Tensor:
    return documented(*arguments, **options | {"window_size": (-1, 0)})


def without_gradient(*arguments: Any, **options: Any) -> Tensor:
    return documented(*arguments, **options).detach()


@pytest.mark.parametrize(
    "function",
    [
        raising(RuntimeError("FlashAttention only supports Ampere GPUs or newer")),
        raising(TypeError("varlen_attn() got an unexpected keyword argument 'window_size'")),
        blind_to_windows,
        without_gradient,
    ],
    ids=["refuses", "another signature", "reads windows otherwise", "no gradient"],
)
def test_where_it_does_not_agree_the_products_are_used(
    calls: list[tuple[int, ...]], function: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", function)
    inputs = given()
    found = packed_attention(*inputs, STARTS, scaling=0.3, causal=True, window=5)
    wanted = documented(*inputs, STARTS, STARTS, 33, 33, scale=0.3, window_size=(4, 0), enable_gqa=True)
    assert (found - wanted).norm() < 2e-2 * wanted.norm()
    found.sum().backward()
    assert all(x.grad is not None and x.grad.norm() > 0 for x in inputs)


def test_memory_that_runs_out_at_the_probe_decides_nothing(
    calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", raising(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        packed_attention(*given(), STARTS, scaling=0.3, causal=True)
    monkeypatch.setattr(varlen, "varlen_attn", documented)
    packed_attention(*given(), STARTS, scaling=0.3, causal=True)
    assert list(flash._known.values()) == [True]


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {}),
        (torch.bfloat16, {"softcap": 5.0}),
        (torch.bfloat16, {"sinks": torch.zeros(4)}),
        (torch.bfloat16, {"dropout": 0.1}),
    ],
    ids=["float32", "soft cap", "sinks", "dropout"],
)
def test_what_it_cannot_do_is_not_asked_of_it(
    calls: list[tuple[int, ...]], dtype: torch.dtype, options: dict[str, Any]
) -> None:
    packed_attention(*given(dtype), STARTS, scaling=0.3, causal=True, **options)
    assert not calls
