"""Chunked log-probabilities against log_softmax of whole float64 logits: every combination of what can differ."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from luthier.functional.logprobs import logps_of_logits, token_logps, token_logps_through

N, H, V = 11, 6, 17


def tensors(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((N, H), (V, H), (V,)))
    targets = torch.randint(0, V, (N,), generator=generator)
    return hidden.to(dtype), weight.to(dtype), bias.to(dtype), targets


def plain(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    softcap: object,
    scale: object,
    smoothing: float,
) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias) * (1.0 if scale is None else scale)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    every = torch.log_softmax(logits, dim=-1)
    # cross_entropy's own smoothing is the same mixture.
    loss = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    assert smoothing or torch.allclose(-loss, every.gather(1, targets[:, None])[:, 0])
    return -loss


TRAINED = [c for n in range(4) for c in itertools.combinations(("hidden", "weight", "bias"), n)]


@pytest.mark.parametrize("trained", TRAINED, ids="+".join)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("scale", [None, 0.4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [None, 4, 1])
def test_value_and_gradients_equal_float64(
    trained: tuple[str, ...],
    with_bias: bool,
    softcap: object,
    scale: object,
    smoothing: float,
    chunk: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a layer that learns is told that all tokens count alike, whether or not that comes true."""
    from luthier.functional import logprobs

    if "bias" in trained and not with_bias:
        return
    monkeypatch.setattr(logprobs, "SLICE", 3 * V)
    hidden, weight, bias, targets = tensors()
    named = {"hidden": hidden, "weight": weight, "bias": bias}
    leaves = [named[name].requires_grad_() for name in trained]
    shift = bias if with_bias else None
    rule = {"softcap": softcap, "scale": scale, "smoothing": smoothing}
    wanted = plain(hidden, weight, shift, targets, **rule)
    uneven, even = torch.linspace(-1, 2, N, dtype=torch.float64), torch.full((N,), -0.7, dtype=torch.float64)
    for alike, upstream in ((False, uneven), (True, uneven), (True, even)):
        found = token_logps(hidden, weight, targets, bias=shift, chunk=chunk, alike=alike, **rule)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)
        assert found.requires_grad == bool(trained)
        if trained:
            ours = torch.autograd.grad(found, leaves, upstream, retain_graph=alike)
            reference = torch.autograd.grad(wanted, leaves, upstream, retain_graph=True)
            for a, b in zip(ours, reference, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("train_weight", [True, False])
@pytest.mark.parametrize("alike", [True, False])
def test_lower_precision_stays_close_to_float64(
    dtype: torch.dtype, tolerance: float, train_weight: bool, alike: bool
) -> None:
    hidden, weight, bias, targets = tensors(dtype)
    leaves = [hidden.requires_grad_(), *([weight.requires_grad_()] if train_weight else [])]
    found = token_logps(hidden, weight, targets, bias=bias, chunk=4, alike=alike)
    assert found.dtype == torch.float32
    exact = [x.detach().double().requires_grad_() for x in leaves]
    other = exact[1] if train_weight else weight.double()
    wanted = plain(exact[0], other, bias.double(), targets, None, None, 0.0)
    assert (found.double() - wanted).abs().max() <= tolerance * wanted.abs().max()
    for a, b in zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(wanted.sum(), exact), strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).norm() <= tolerance * b.norm()


def test_nothing_supervised_is_zero_attached_to_the_graph() -> None:
    for train_weight, alike in itertools.product((True, False), (True, False)):
        hidden, weight, _, targets = tensors()
        hidden.requires_grad_()
        weight.requires_grad_(train_weight)
        total = token_logps(hidden[:0], weight, targets[:0], alike=alike).sum()
        assert total.item() == 0.0
        total.backward()
        assert hidden.grad is not None
        assert not hidden.grad.any()


def test_without_gradients_the_value_is_the_same() -> None:
    hidden, weight, _, targets = tensors()
    hidden.requires_grad_()
    with torch.no_grad():
        found = token_logps(hidden, weight, targets)
    assert not found.requires_grad
    torch.testing.assert_close(
        found, plain(hidden, weight, None, targets, None, None, 0.0).detach(), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_adapted_layer_and_given_logits_agree(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.functional import logprobs

    monkeypatch.setattr(logprobs, "CHUNK", 4 * V)
    hidden, weight, bias, targets = tensors()
    layer = torch.nn.Linear(H, V).double()
    layer.weight.data, layer.bias.data = weight, bias
    hidden.requires_grad_()
    options = {"softcap": 1.5, "scale": 0.4, "smoothing": smoothing}
    found = token_logps_through(layer, hidden, targets, vocabulary=V, **options)
    wanted = plain(hidden, layer.weight, layer.bias, targets, 1.5, 0.4, smoothing)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)
    leaves = [hidden, layer.weight, layer.bias]
    ours, reference = torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(wanted.sum(), leaves)
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    logits = layer(hidden)
    torch.testing.assert_close(
        logps_of_logits(logits, targets, smoothing),
        plain(hidden, layer.weight, layer.bias, targets, None, None, smoothing),
        rtol=0,
        atol=1e-13,
    )


def test_the_whole_logits_never_exist() -> None:
    """The largest tensor that torch makes is a chunk's, not N * V: counted by watching every operator's output."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.numel())
            return result

    hidden = torch.randn(300, 4, requires_grad=True)
    weight = torch.randn(50, 4, requires_grad=True)
    with Watch():
        for alike in (True, False):
            token_logps(hidden, weight, torch.zeros(300, dtype=torch.int64), chunk=30, alike=alike).sum().backward()
    assert largest <= 30 * 50
