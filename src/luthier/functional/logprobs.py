"""Log-probabilities of target tokens through the output layer, in chunks: the logits never exist as a whole.

log softmax(z)_t with z = cap * tanh(scale * (h W^T + b) / cap), and label smoothing after Szegedy et al. 2016, sec. 7.
Shapes: N positions, H wide, V pieces in the vocabulary. Units: nats. Softmax in float32 (float64 for float64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["logps_of_logits", "token_logps", "token_logps_through"]

_CHUNK = 2**23
"""Logits of one chunk: 32 MB in float32, small enough to stay cheap and large enough for a full-speed product."""


def token_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    smoothing: float = 0.0,
    chunk: int | None = None,
) -> Tensor:
    """[N] float32: log-probability of `targets` [N] given `hidden` [N, H] and the output layer `weight` [V, H].

    With smoothing e: (1 - e) * logp(target) + e * mean of logp over the vocabulary. `chunk`: positions at a time.
    Only `hidden`, `weight` and `bias` that ask for a gradient get one. With a frozen layer the whole gradient is made
    in the forward pass and backward costs nothing; otherwise the logits are computed again. Once differentiable.
    """
    kind = hidden.device.type
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    rule = _Rule(softcap, scale, smoothing, chunk or max(1, _CHUNK // len(weight)), torch.is_grad_enabled())
    bias = None if bias is None else bias.to(dtype)
    with torch.autocast(kind, enabled=False):
        logps: Tensor = _TokenLogps.apply(  # type: ignore[no-untyped-call]
            hidden.to(dtype), weight.to(dtype), bias, targets, rule
        )
    return logps


def token_logps_through(
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    *,
    vocabulary: int,
    softcap: float | None = None,
    scale: float | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """[N] float32: the same for an output layer that is any function of hidden states (an adapted one), by autograd.

    Each chunk is computed again in the backward pass, so that here too the logits never exist as a whole.
    """

    def part(hidden: Tensor, targets: Tensor) -> Tensor:
        return logps_of_logits(_bend(head(hidden), softcap, scale), targets, smoothing)

    size = max(1, _CHUNK // vocabulary)
    if len(hidden) <= size:
        return part(hidden, targets)
    pieces = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    return torch.cat([checkpoint(part, *piece, use_reentrant=False) for piece in pieces])


def logps_of_logits(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """[N] float32: the same from logits [N, V] that exist already."""
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    normalizer = exact.logsumexp(-1)
    logps = exact.gather(1, targets[:, None])[:, 0] - normalizer
    if smoothing:
        logps = (1 - smoothing) * logps + smoothing * (exact.mean(-1) - normalizer)
    return logps


def _bend(logits: Tensor, softcap: float | None, scale: float | None) -> Tensor:
    if scale is not None:
        logits = logits * scale
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


@dataclass(frozen=True)
class _Rule:
    softcap: float | None
    scale: float | None
    smoothing: float
    chunk: int
    differentiable: bool


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, rule: _Rule) -> tuple[Tensor, Tensor | None]:
    """Logits of a chunk in float32, and tanh of the capped ones where there is a cap."""
    raw = hidden @ weight.T if bias is None else torch.addmm(bias, hidden, weight.T)
    exact = raw.to(torch.promote_types(raw.dtype, torch.float32))
    if rule.scale is not None:
        exact = exact.mul_(rule.scale)
    if rule.softcap is None:
        return exact, None
    bent = exact.div_(rule.softcap).tanh_()
    return bent * rule.softcap, bent


def _picked(logits: Tensor, chances: Tensor | None, targets: Tensor, smoothing: float) -> Tensor:
    """[n] log-probabilities of the targets; from the softmax where that is there anyway.

    log sum exp is then the largest logit less the log of its share, which is at least 1/V: no second pass with exp.
    """
    if chances is None:
        every = torch.log_softmax(logits, dim=-1)
        picked, mean = every.gather(1, targets[:, None])[:, 0], every.mean(-1) if smoothing else None
    else:
        normalizer = logits.amax(-1) - chances.amax(-1).log()
        picked = logits.gather(1, targets[:, None])[:, 0] - normalizer
        mean = logits.mean(-1) - normalizer if smoothing else None
    return picked if mean is None else (1 - smoothing) * picked + smoothing * mean


def _slopes(chances: Tensor, bent: Tensor | None, targets: Tensor, rule: _Rule) -> Tensor:
    """d (-logp) / d raw logit, [n, V]: softmax - (1-e) onehot - e/V, through cap and scale; `chances` is used up."""
    # Not exp(logits - normalizer): for far smaller logits the CPU's exp is twenty times slower than the fused softmax.
    slopes = chances
    if rule.smoothing:
        slopes.sub_(rule.smoothing / slopes.shape[1])
    slopes.scatter_add_(1, targets[:, None], slopes.new_full((len(slopes), 1), rule.smoothing - 1))
    if bent is not None:
        slopes.mul_(bent.square_().neg_().add_(1))
    return slopes if rule.scale is None else slopes.mul_(rule.scale)


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rule: _Rule) -> Tensor:
        needs_hidden, needs_weight, needs_bias = (rule.differentiable and need for need in ctx.needs_input_grad[:3])
        # A token's log-probability depends on its own hidden state only, so its gradient is a row that backward scales.
        at_once = needs_hidden and not needs_weight and not needs_bias
        wide = torch.promote_types(hidden.dtype, torch.float32)
        logps = torch.empty(len(hidden), dtype=wide, device=hidden.device)
        rows = torch.empty_like(hidden) if at_once else hidden
        for low in range(0, len(hidden), rule.chunk):
            part = slice(low, low + rule.chunk)
            logits, bent = _logits(hidden[part], weight, bias, rule)
            chances = torch.softmax(logits, dim=-1) if at_once else None
            logps[part] = _picked(logits, chances, targets[part], rule.smoothing)
            if chances is not None:
                rows[part] = -(_slopes(chances, bent, targets[part], rule).to(weight.dtype) @ weight)
        ctx.at_once, ctx.rule = at_once, rule
        if at_once:
            ctx.save_for_backward(rows)
        elif rule.differentiable:
            ctx.save_for_backward(hidden, weight, targets, *([] if bias is None else [bias]))
        return logps

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.at_once:
            (rows,) = ctx.saved_tensors
            return (rows * gradients[0][:, None]).to(rows.dtype), None, None, None, None
        hidden, weight, targets, *rest = ctx.saved_tensors
        rule: _Rule = ctx.rule
        bias = rest[0] if rest else None
        wide = torch.promote_types(hidden.dtype, torch.float32)
        # Sums over chunks are kept in float32: in bfloat16 they would lose what small chunks add.
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and ctx.needs_input_grad[2] else None
        for low in range(0, len(hidden), rule.chunk):
            part = slice(low, low + rule.chunk)
            logits, bent = _logits(hidden[part], weight, bias, rule)
            slopes = _slopes(torch.softmax(logits, dim=-1), bent, targets[part], rule).mul_(-gradients[0][part, None])
            if d_bias is not None:
                d_bias += slopes.sum(0)
            low_precision = slopes.to(weight.dtype)
            if d_hidden is not None:
                d_hidden[part] = low_precision @ weight
            if d_weight is not None:
                d_weight += low_precision.T @ hidden[part]
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(weight.dtype),
            None,
            None,
        )
