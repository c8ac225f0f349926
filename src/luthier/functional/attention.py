"""Attention over packed sequences of any lengths: no token sees another sequence, and no padding is computed.

softmax(scaling * q k^T) v (Vaswani et al. 2017, eq. 1) for each sequence apart, with grouped-query heads (Ainslie et
al. 2023) folded into the rows of one batched product, queries taken in blocks over the keys they can see, and the
backward pass written by hand, which recomputes the probabilities instead of keeping them (Dao et al. 2022, sec. 3.1).

Shapes: T tokens, Hq query heads over Hk key heads, D and Dv wide. Softmax is computed in float32 (float64 for float64).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

__all__ = ["packed_attention"]

_BLOCK = 256
"""Queries of a block. Longer sequences are cut, so that causal attention skips most of what it cannot see."""
_SCORES = 2**18
"""Scores of a head that one product may hold: many short sequences go together, long ones alone."""


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    *,
    scaling: float,
    causal: bool,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """[T, Hq, Dv]: each sequence of the pack attends to itself.

    query [T, Hq, D]; key [T, Hk, D]; value [T, Hk, Dv]; Hk divides Hq. starts [S+1]: cumulative lengths from 0 to T
    (keep it on the CPU: its values are read). window: i sees j only if |i - j| < window. softcap: cap * tanh(s / cap)
    (Gemma 2). sinks [Hq]: a logit a head that takes part in the softmax and gives nothing (GPT-OSS). dropout: the
    probability with which a weight is dropped; the caller passes 0 outside training. Once differentiable.
    """
    assert query.shape[1] % key.shape[1] == 0, f"{key.shape[1]} key heads do not divide {query.shape[1]} query heads"
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    rule = _Rule(scaling, causal, window, softcap, dropout, query.shape[1] // key.shape[1])
    bounds = [int(bound) for bound in starts.tolist()]
    assert bounds[-1] == len(query), f"the boundaries end at {bounds[-1]}, the pack at {len(query)}"
    with torch.autocast(kind, enabled=False):
        output: Tensor = _PackedAttention.apply(  # type: ignore[no-untyped-call]
            query.to(dtype), key.to(dtype), value.to(dtype), sinks, bounds, rule, query.device
        )
    return output


@dataclass(frozen=True)
class _Rule:
    """What all sequences of a call share; `group` is the number of query heads over one key head."""

    scaling: float
    causal: bool
    window: int | None
    softcap: float | None
    dropout: float
    group: int


@dataclass(frozen=True)
class _Bunch:
    """Sequences of about one length, computed together as B rows of `length`.

    at [B * length]: the token at each place, a sequence's last one again where it is shorter; None for one sequence.
    real [B, length] bool: a place holds a token of its own; None where all do.
    """

    first: int
    count: int
    length: int
    at: Tensor | None
    real: Tensor | None

    def take(self, x: Tensor) -> Tensor:
        """[T, H, D] -> [B, length, H, D]."""
        if self.at is None:
            return x[self.first : self.first + self.length].unsqueeze(0)
        return x.index_select(0, self.at).view(self.count, self.length, *x.shape[1:])

    def take_gradient(self, x: Tensor) -> Tensor:
        """As `take`, but zero where no token is, so that such a place teaches nothing."""
        found = self.take(x)
        return found if self.real is None else found * self.real[:, :, None, None]

    def put(self, target: Tensor, x: Tensor) -> None:
        """[B, length, H, D] -> their places in [T, H, D]."""
        if self.at is None:
            target[self.first : self.first + self.length].copy_(x[0])
        elif self.real is None:
            target.index_copy_(0, self.at, x.reshape(-1, *target.shape[1:]))
        else:
            flat = self.real.flatten().nonzero()[:, 0]
            target.index_copy_(0, self.at[flat], x.reshape(-1, *target.shape[1:])[flat])


def _room(length: int) -> int:
    """The length that a short sequence is computed at: few different ones make few products."""
    step = 8 if length <= 64 else 16
    return -(-length // step) * step if length < _BLOCK // 2 else length


def _bunches(bounds: list[int], device: torch.device) -> Iterator[_Bunch]:
    """The pack's sequences by length: many short ones cost one product, not one each."""
    by_length: dict[int, list[tuple[int, int]]] = {}
    for first, end in pairwise(bounds):
        if end > first:
            by_length.setdefault(_room(end - first), []).append((first, end - first))
    for room, found in by_length.items():
        # Long sequences gain nothing from company, and their score matrices would all be alive at once.
        together = max(1, _SCORES // room**2) if room < _BLOCK else 1
        for low in range(0, len(found), together):
            yield _bunch(found[low : low + together], room, device)


def _bunch(sequences: list[tuple[int, int]], room: int, device: torch.device) -> _Bunch:
    """The bunch of (first token, length) pairs, none longer than `room`."""
    if len(sequences) == 1:
        first, length = sequences[0]
        return _Bunch(first, 1, length, None, None)
    firsts, lengths = torch.tensor(sequences).unbind(1)
    places = torch.arange(room)
    at = (firsts[:, None] + torch.minimum(places, lengths[:, None] - 1)).flatten()
    real = None if bool((lengths == room).all()) else (places < lengths[:, None]).to(device)
    return _Bunch(sequences[0][0], len(sequences), room, at.to(device), real)


def _blocks(length: int, rule: _Rule) -> Iterator[tuple[int, int, int, int]]:
    """Blocks of queries [low, high) with the keys [left, right) that any of them can see."""
    for low in range(0, length, _BLOCK):
        high = min(low + _BLOCK, length)
        left = 0 if rule.window is None else max(0, low - rule.window + 1)
        right = length if rule.window is None else min(length, high + rule.window - 1)
        yield low, high, left, min(right, high) if rule.causal else right


def _hidden(block: tuple[int, int, int, int], bunch: _Bunch, rule: _Rule, device: torch.device) -> Tensor | None:
    """[queries, keys] bool, True where a query must not see a key, or [B, 1, 1, queries, keys]; None: all are seen."""
    low, high, left, right = block
    reach = rule.window
    hidden = None
    if rule.causal or (reach is not None and max(high - left, right - low) > reach):
        distance = torch.arange(low, high, device=device)[:, None] - torch.arange(left, right, device=device)
        if reach is None:
            hidden = distance < 0
        else:
            hidden = (distance < 0) | (distance >= reach) if rule.causal else distance.abs() >= reach
    if rule.causal or bunch.real is None:
        return hidden  # What only fills a row comes after its tokens: no causal query sees it.
    # A place without a token still sees itself: a softmax over nothing would give NaN.
    filling = bunch.real[:, low:high, None] & ~bunch.real[:, None, left:right]
    return (filling if hidden is None else filling | hidden)[:, None, None]


def _fold(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads * G, D] -> [B * heads, G, L, D]: the G query heads of a key head become rows of its product."""
    batch, length, total, width = x.shape
    group = total // heads
    return (
        x.view(batch, length, heads, group, width).permute(0, 2, 3, 1, 4).reshape(batch * heads, group, length, width)
    )


def _unfold(x: Tensor, batch: int) -> Tensor:
    """[B * heads, G, L, D] -> [B, L, heads * G, D]."""
    rows, group, length, width = x.shape
    return x.view(batch, rows // batch, group, length, width).permute(0, 3, 1, 2, 4).reshape(batch, length, -1, width)


def _probabilities(
    q: Tensor, k: Tensor, hidden: Tensor | None, sinks: Tensor | None, rule: _Rule
) -> tuple[Tensor, Tensor | None]:
    """Weights [N, G*n, m] for q [N, G, n, D] and k [N, m, D]; and tanh of the capped scores where there is a cap."""
    rows, group, count, width = q.shape
    scores = torch.bmm(q.reshape(rows, group * count, width), k.transpose(1, 2)).mul_(rule.scaling)
    bent = None
    if rule.softcap is not None:
        bent = torch.tanh_(scores.div_(rule.softcap))
        scores = bent * rule.softcap
    if hidden is not None:
        split = scores.view(rows, group, count, -1)
        if hidden.dim() > 2:
            split = split.view(len(hidden), -1, group, count, split.shape[-1])
        split.masked_fill_(hidden, float("-inf"))
    if sinks is None:
        # On reduced precision the kernel computes in float32 and rounds the result.
        return torch.softmax(scores, dim=-1), bent
    exact = scores.double() if scores.dtype == torch.float64 else scores.float()
    extra = sinks.to(exact.dtype).view(-1, group).repeat(rows * group // len(sinks), 1)
    extra = extra[:, :, None].expand(rows, group, count).reshape(rows, group * count, 1)
    return torch.softmax(torch.cat([exact, extra], dim=-1), dim=-1)[..., :-1].to(q.dtype), bent


class _PackedAttention(torch.autograd.Function):
    """Forward and backward over bunches and blocks; keeps query, key, value and output, never the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor | None,
        bounds: list[int],
        rule: _Rule,
        device: torch.device,
    ) -> Tensor:
        heads = key.shape[1]
        output = value.new_zeros(len(query), query.shape[1], value.shape[2])
        kept: list[Tensor] = []
        for bunch in _bunches(bounds, device):
            q, k, v = (_fold(bunch.take(x), heads) for x in (query, key, value))
            k, v = k[:, 0], v[:, 0]
            parts = []
            for block in _blocks(bunch.length, rule):
                low, high, left, right = block
                p, _ = _probabilities(
                    q[:, :, low:high], k[:, left:right], _hidden(block, bunch, rule, device), sinks, rule
                )
                if rule.dropout > 0:
                    kept.append(torch.rand(p.shape, device=device) >= rule.dropout)
                    p = p.mul_(kept[-1]).div_(1 - rule.dropout)
                parts.append(torch.bmm(p, v[:, left:right]).view(*q.shape[:2], high - low, -1))
            bunch.put(output, _unfold(parts[0] if len(parts) == 1 else torch.cat(parts, dim=2), bunch.count))
        ctx.save_for_backward(query, key, value, output, *([] if sinks is None else [sinks]), *kept)
        ctx.bounds, ctx.rule, ctx.device, ctx.sunk = bounds, rule, device, sinks is not None
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *rest = ctx.saved_tensors
        rule: _Rule = ctx.rule
        sinks = rest.pop(0) if ctx.sunk else None
        kept = iter(rest)
        d_query, d_key, d_value = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
        d_sinks = (
            None if sinks is None else torch.zeros_like(sinks, dtype=torch.promote_types(sinks.dtype, torch.float32))
        )
        for bunch in _bunches(ctx.bounds, ctx.device):
            q, k, v, o = (_fold(bunch.take(x), key.shape[1]) for x in (query, key, value, output))
            k, v, do = k[:, 0], v[:, 0], _fold(bunch.take_gradient(gradients[0]), key.shape[1])
            blocks = list(_blocks(bunch.length, rule))
            # The sums over blocks are kept in float32; a single block needs none.
            wide = torch.promote_types(k.dtype, torch.float32) if len(blocks) > 1 else k.dtype
            dq, dk, dv = torch.empty_like(q), torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
            for block in blocks:
                low, high, left, right = block
                mask = next(kept) if rule.dropout > 0 else None
                parts = (q[:, :, low:high], k[:, left:right], v[:, left:right], do[:, :, low:high], o[:, :, low:high])
                found = _block_backward(parts, mask, _hidden(block, bunch, rule, ctx.device), sinks, rule)
                dq[:, :, low:high] = found[0]
                dk[:, left:right] += found[1]
                dv[:, left:right] += found[2]
                if d_sinks is not None:
                    d_sinks += found[3].view(bunch.count, -1).sum(0)
            bunch.put(d_query, _unfold(dq, bunch.count))
            bunch.put(d_key, _unfold(dk[:, None], bunch.count))
            bunch.put(d_value, _unfold(dv[:, None], bunch.count))
        return (
            d_query,
            d_key,
            d_value,
            None if sinks is None or d_sinks is None else d_sinks.to(sinks.dtype),
            None,
            None,
            None,
        )


def _block_backward(
    parts: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    kept: Tensor | None,
    hidden: Tensor | None,
    sinks: Tensor | None,
    rule: _Rule,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of one block: query [N, G, n, D], key [N, m, D], value [N, m, Dv], sinks [N, G].

    With weights P and their gradient dP: dS = P * (dP - sum(P * dP)), and sum(P * dP) = sum(dO * O) (Dao et al. 2022,
    appendix B.2), with dropout too. The sink's weight is 1 - sum(P), its own dP is 0.
    """
    q, k, v, do, o = parts
    rows, group, count, width = q.shape
    p, bent = _probabilities(q, k, hidden, sinks, rule)
    wide = torch.promote_types(q.dtype, torch.float32)
    inner = (do.to(wide) * o.to(wide)).sum(-1).view(rows, group * count, 1)
    d_sinks = q.new_zeros(0)
    if sinks is not None:
        d_sinks = -((1 - p.to(wide).sum(-1, keepdim=True)) * inner).view(rows, group, count).sum(-1)
    upstream = do.reshape(rows, group * count, -1)
    d_p = torch.bmm(upstream, v.transpose(1, 2))
    if kept is None:
        d_v = torch.bmm(p.transpose(1, 2), upstream)
    else:
        d_v = torch.bmm((p * kept).div_(1 - rule.dropout).transpose(1, 2), upstream)
        d_p = d_p.mul_(kept).div_(1 - rule.dropout)
    d_s = d_p.sub_(inner.to(d_p.dtype)).mul_(p)
    if bent is not None:
        d_s = d_s.mul_(1 - bent * bent)
    d_s = d_s.mul_(rule.scaling)
    d_q = torch.bmm(d_s, k).view(rows, group, count, width)
    return d_q, torch.bmm(d_s.transpose(1, 2), q.reshape(rows, group * count, width)), d_v, d_sinks
