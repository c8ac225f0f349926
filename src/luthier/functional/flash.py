"""FlashAttention over packed sequences, where torch has it: on CUDA, for 16-bit numbers, without a soft cap or sinks.

torch.nn.attention.varlen takes packs as they are (Dao 2023, arXiv:2307.08691) and keeps no weights. Versions of torch
and of chips differ in what it takes and how it reads a window, so that it is used for a kind of call only after a small
pack gave what the products of functional/attention.py give, forward and backward; else those compute it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

import torch
from torch import Tensor

__all__ = ["flash_attention"]

Attention = Callable[[Tensor, Tensor, Tensor, tuple[int, ...], int | None], Tensor]

_DEVICE = "cuda"
_LENGTHS = (3, 40, 17)
_NEAR = 3e-2
"""The largest relative distance at the probe: some roundings of bf16."""


def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: tuple[int, ...],
    *,
    scaling: float,
    causal: bool,
    window: int | None,
    products: Attention,
) -> Tensor | None:
    """[T, Hq, Dv], as functional/attention.py's packed_attention; None where FlashAttention is not there for this call.

    products: the same call by batched products, given boundaries and window; the probe compares with it.
    """
    if query.device.type != _DEVICE or value.dtype not in (torch.bfloat16, torch.float16):
        return None
    shapes = tuple((x.shape[1], x.shape[2]) for x in (query, key, value))
    if not _agrees(query.device, value.dtype, shapes, scaling, causal, window, products):
        return None
    return _flash(query, key, value, bounds, scaling, causal, window)


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: tuple[int, ...],
    scaling: float,
    causal: bool,
    window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = _starts(bounds, query.device)
    # It sees that many neighbors on either side besides the token itself; -1: all of them.
    side = -1 if window is None else window - 1
    found = varlen_attn(
        query,
        key,
        value,
        starts,
        starts,
        longest,
        longest,
        scale=scaling,
        window_size=(side, 0 if causal else side),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(found, Tensor)
    return found


@lru_cache(maxsize=8)
def _starts(bounds: tuple[int, ...], device: torch.device) -> tuple[Tensor, int]:
    """The boundaries on the device, and the longest sequence; a pack's layers share them."""
    longest = max(end - begin for begin, end in pairwise(bounds))
    # The backward pass saves them, which it may not if they were made for an answer and training meets them again.
    with torch.inference_mode(False):
        return torch.tensor(bounds, dtype=torch.int32, device=device), longest


_known: dict[tuple[object, ...], bool] = {}


def _agrees(
    device: torch.device,
    dtype: torch.dtype,
    shapes: tuple[tuple[int, int], ...],
    scaling: float,
    causal: bool,
    window: int | None,
    products: Attention,
) -> bool:
    """Whether outputs and gradients of a small pack are those of the products; asked once for a kind of call."""
    kind = (device, dtype, shapes, scaling, causal, window)
    if kind not in _known:
        bounds = (0, *accumulate(_LENGTHS))
        # Numbers of its own: a probe must not move the run's.
        draw = torch.Generator().manual_seed(0)
        given = [torch.randn(bounds[-1], *shape, generator=draw) for shape in (*shapes, (shapes[0][0], shapes[2][1]))]
        inputs = [x.to(device, dtype) for x in given]
        small = None if window is None else min(window, 9)  # shorter than a sequence, so that it matters
        try:
            found = _results(lambda q, k, v, b, w: _flash(q, k, v, b, scaling, causal, w), inputs, bounds, small)
            wanted = _results(products, inputs, bounds, small)
        except torch.OutOfMemoryError:
            raise  # says nothing of the kind of call, which smaller batches may come to again
        except (ImportError, AttributeError, TypeError, ValueError, AssertionError, RuntimeError):
            _known[kind] = False
        else:
            near = (
                (a.float() - b.float()).norm() <= _NEAR * b.float().norm() for a, b in zip(found, wanted, strict=True)
            )
            _known[kind] = all(bool(close) for close in near)
    return _known[kind]


def _results(attend: Attention, inputs: Sequence[Tensor], bounds: tuple[int, ...], window: int | None) -> list[Tensor]:
    """The output, and the gradients of query, key and value for a given one of the output."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(_DEVICE, enabled=False):
        query, key, value = (x.clone().requires_grad_() for x in inputs[:3])
        output = attend(query, key, value, bounds, window)
        return [output.detach(), *torch.autograd.grad(output, (query, key, value), inputs[3].clone())]
