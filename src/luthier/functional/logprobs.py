"""Log-probabilities of target tokens through the output layer, in chunks: the logits never exist as a whole.

log softmax(z)_t with z = cap * tanh(scale * (h W^T + b) / cap), and label smoothing after Szegedy et al. 2016, sec. 7.
Shapes: N positions, H wide, V pieces in the vocabulary. Units: nats. Softmax in float32 (float64 for float64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["CHUNK", "SLICE", "logps_of_logits", "read_through", "token_logps", "token_logps_through"]

CHUNK = 2**25
"""Logits of one chunk: 64 MB in bfloat16, small enough to stay cheap and large enough for a full-speed product."""
SLICE = 2**19
"""Logits that are read at a time."""


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
    alike: bool = False,
) -> Tensor:
    """[N] float32: log-probability of `targets` [N] given `hidden` [N, H] and the output layer `weight` [V, H].

    With smoothing e: (1 - e) * logp(target) + e * mean of logp over the vocabulary. `chunk`: positions at a time.
    Only `hidden`, `weight` and `bias` that ask for a gradient get one. With a frozen layer the whole gradient is made
    in the forward pass and backward costs nothing; so it is with one that learns if `alike` says that the loss is a sum
    or mean of all tokens alike. Otherwise (and where that was not so) the logits are computed again. Once
    differentiable.
    """
    kind = hidden.device.type
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    rule = _Rule(softcap, scale, smoothing, chunk or max(1, CHUNK // len(weight)), torch.is_grad_enabled(), alike)
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
    """[N] float32: the same for an output layer that is any function of hidden states (an adapted one), by autograd."""

    def picked(logits: Tensor, targets: Tensor) -> tuple[Tensor]:
        return (logps_of_logits(logits, targets, smoothing),)

    (found,) = read_through(head, hidden, picked, targets, vocabulary=vocabulary, softcap=softcap, scale=scale)
    return found


def read_through(
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    read: Callable[..., tuple[Tensor, ...]],
    *given: Tensor,
    vocabulary: int,
    softcap: float | None = None,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    """What `read(logits [n, V], *given [n, ...])` finds at the positions of `hidden` [N, H]: tensors [N, ...].

    Each chunk is computed again in the backward pass, so that here too the logits never exist as a whole.
    """

    def part(hidden: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        return read(_bend(head(hidden), softcap, scale), *given)

    size = max(1, CHUNK // vocabulary)
    if len(hidden) <= size:
        return part(hidden, *given)
    pieces = zip(*(torch.split(one, size) for one in (hidden, *given)), strict=True)
    found = [checkpoint(part, *piece, use_reentrant=False) for piece in pieces]
    return tuple(torch.cat(column) for column in zip(*found, strict=True))


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
    alike: bool


def _layer(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[n, V] raw logits of a chunk, in the weight's dtype."""
    return hidden @ weight.T if bias is None else torch.addmm(bias, hidden, weight.T)


def _read(raw: Tensor, targets: Tensor, rule: _Rule, factors: Tensor | None) -> Tensor:
    """[n] log-probabilities of the targets from raw logits [n, V] of a chunk.

    With factors [n] the logits become their slopes times these. In slices that stay in the processor's cache between
    one operation and the next.
    """
    size = max(1, SLICE // raw.shape[1])
    found = torch.empty(len(raw), dtype=_wide(raw), device=raw.device)
    for low in range(0, len(raw), size):
        part = slice(low, low + size)
        logits, bent = _bent(raw[part].to(found.dtype), rule)
        chances = None if factors is None else torch.softmax(logits, dim=-1)
        found[part] = _picked(logits, chances, targets[part], rule.smoothing)
        if factors is not None and chances is not None:
            raw[part] = _slopes(chances, bent, targets[part], rule).mul_(factors[part, None])
    return found


def _bent(exact: Tensor, rule: _Rule) -> tuple[Tensor, Tensor | None]:
    """The logits after scale and cap, and tanh of the capped ones where there is a cap."""
    if rule.scale is not None:
        exact = exact * rule.scale
    if rule.softcap is None:
        return exact, None
    bent = (exact / rule.softcap).tanh_()
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


class _Layer(NamedTuple):
    """Sums over chunks of what the output layer's gradient is made of, in float32: bfloat16 would lose small chunks."""

    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor | None, bias: Tensor | None) -> _Layer:
        """Zeros for each that is given."""
        return cls(*(None if x is None else torch.zeros_like(x, dtype=_wide(x)) for x in (weight, bias)))

    def add(self, slopes: Tensor, hidden: Tensor) -> None:
        """Adds a chunk's slopes [n, V] over hidden states [n, H]."""
        if self.bias is not None:
            self.bias.add_(slopes.sum(0, dtype=self.bias.dtype))
        if self.weight is not None:
            self.weight.add_(slopes.T @ hidden)


def _scaled(x: Tensor | None, factor: Tensor, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else torch.mul(x, factor, out=x.new_empty(x.shape, dtype=dtype))


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rule: _Rule) -> Tensor:
        needs_hidden, needs_weight, needs_bias = (rule.differentiable and need for need in ctx.needs_input_grad[:3])
        # A token's log-probability depends on its own hidden state only, so its gradient is a row that backward scales.
        # The layer's is a sum over tokens, which can be made here only if backward will scale all alike.
        frozen = not (needs_weight or needs_bias)
        at_once = needs_hidden and (frozen or rule.alike)
        logps = torch.empty(len(hidden), dtype=_wide(hidden), device=hidden.device)
        rows = torch.empty_like(hidden) if at_once else None
        made = _Layer.of(weight if at_once and needs_weight else None, bias if at_once and needs_bias else None)
        minus = None if rows is None else torch.full_like(logps, -1.0)
        for low in range(0, len(hidden), rule.chunk):
            part = slice(low, low + rule.chunk)
            raw = _layer(hidden[part], weight, bias)
            logps[part] = _read(raw, targets[part], rule, None if minus is None else minus[part])
            if rows is not None:
                torch.mm(raw, weight, out=rows[part])
                made.add(raw, hidden[part])
        ctx.rule, ctx.frozen = rule, frozen
        if rule.differentiable:
            kept = (None, None, None, None) if at_once and frozen else (hidden, weight, bias, targets)
            ctx.save_for_backward(*kept, rows, *made)
        return logps

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, rows, *made = ctx.saved_tensors
        given = gradients[0]
        if rows is not None and ctx.frozen:
            return (rows * given[:, None]).to(rows.dtype), None, None, None, None
        if rows is not None and bool((given == given[:1]).all()):
            factor = given[:1].sum()
            return (rows * factor).to(rows.dtype), *(_scaled(x, factor, weight.dtype) for x in made), None, None
        rule: _Rule = ctx.rule
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if needs_hidden else None
        sums = _Layer.of(weight if needs_weight else None, bias if needs_bias else None)
        for low in range(0, len(hidden), rule.chunk):
            part = slice(low, low + rule.chunk)
            raw = _layer(hidden[part], weight, bias)
            _read(raw, targets[part], rule, -given[part])
            if d_hidden is not None:
                torch.mm(raw, weight, out=d_hidden[part])
            sums.add(raw, hidden[part])
        return d_hidden, *(None if x is None else x.to(weight.dtype) for x in sums), None, None
