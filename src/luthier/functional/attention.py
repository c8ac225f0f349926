"""Attention over packed sequences of any lengths: no token sees another sequence, and hardly any padding is computed.

softmax(scaling * q k^T) v (Vaswani et al. 2017, eq. 1) for each sequence apart, with grouped-query heads (Ainslie et
al. 2023) folded into the rows of one batched product, queries taken in blocks over the keys they can see, and the
backward pass written by hand. Short sequences keep their weights for it; for long ones they are computed again instead
(Dao et al. 2022, sec. 3.1).

Shapes: T tokens, Hq query heads over Hk key heads, D and Dv wide. Softmax is computed in float32 (float64 for float64).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .dropout import keep_mask
from .pack_plan import Bunch, Plan, plan_of

__all__ = ["packed_attention"]


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
    rule = _Rule(scaling, softcap, dropout, query.shape[1] // key.shape[1])
    bounds = tuple(int(bound) for bound in starts.tolist())
    assert bounds[-1] == len(query), f"the boundaries end at {bounds[-1]}, the pack at {len(query)}"
    plan = plan_of(bounds, causal, window, query.device)
    with torch.autocast(kind, enabled=False):
        output: Tensor = _PackedAttention.apply(  # type: ignore[no-untyped-call]
            query.to(dtype), key.to(dtype), value.to(dtype), sinks, plan, rule
        )
    return output


@dataclass(frozen=True)
class _Rule:
    """What all sequences of a call share; `group` is the number of query heads over one key head."""

    scaling: float
    softcap: float | None
    dropout: float
    group: int


def _scores(q: Tensor, k: Tensor, bias: Tensor, rule: _Rule) -> tuple[Tensor, Tensor | None]:
    """Masked scores [N, G*n, m] for q [N, G*n, D], k [N, m, D]; and tanh of the capped ones where there is a cap."""
    if rule.softcap is None:
        return torch.baddbmm(bias, q, k.transpose(1, 2), alpha=rule.scaling), None
    bent = torch.bmm(q, k.transpose(1, 2)).mul_(rule.scaling / rule.softcap).tanh_()
    return (bent * rule.softcap).add_(bias), bent


def _weights(scores: Tensor, sinks: Tensor | None, rule: _Rule) -> Tensor:
    """Softmax over the keys, in the scores' dtype; computed in float32, which is also the faster kernel."""
    exact = scores if scores.dtype == torch.float64 else scores.float()
    if sinks is None:
        return torch.softmax(exact, dim=-1).to(scores.dtype)
    rows, queries, _ = scores.shape
    extra = sinks.to(exact.dtype).view(-1, rule.group).repeat(rows * rule.group // len(sinks), 1)
    extra = extra[:, :, None].expand(rows, rule.group, queries // rule.group).reshape(rows, queries, 1)
    return torch.softmax(torch.cat([exact, extra], dim=-1), dim=-1)[..., :-1].to(scores.dtype)


@dataclass(frozen=True)
class _Folded:
    """A bunch's query, key, value (and more of the query's or value's kind) as views for batched products."""

    queries: tuple[Tensor, ...]
    key: Tensor
    value: Tensor

    @classmethod
    def of(
        cls, bunch: Bunch, queries: tuple[Tensor, ...], key: Tensor, value: Tensor, group: int, heads: int
    ) -> _Folded:
        """queries: rows of Hq heads, viewed as [B * Hk, G, L, .]; key and value: rows of Hk heads, [B * Hk, L, .]."""
        viewed = (bunch.view(rows, heads * group) for rows in queries)
        return cls(
            tuple(x.view(-1, group, bunch.length, x.shape[-1]) for x in viewed),
            bunch.view(key, heads),
            bunch.view(value, heads),
        )


def _cut(x: Tensor, low: int, high: int) -> Tensor:
    """[N, G, L, D] -> [N, G * (high - low), D]."""
    return x[:, :, low:high].reshape(x.shape[0], -1, x.shape[-1])


class _PackedAttention(torch.autograd.Function):
    """Forward and backward over bunches and blocks; keeps rows of query, key, value and output, and short weights."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, plan: Plan, rule: _Rule
    ) -> Tensor:
        heads = key.shape[1]
        q, k, v = plan.rows(query), plan.rows(key), plan.rows(value)
        out = v.new_empty(len(q), v.shape[-1])
        kept: list[Tensor] = []
        for bunch in plan.bunches:
            part = _Folded.of(bunch, (q, out), k, v, rule.group, heads)
            for block in plan.blocks(bunch):
                low, high, left, right = block
                bias = plan.bias(bunch, block, heads, rule.group, q.dtype)
                scores, _ = _scores(_cut(part.queries[0], low, high), part.key[:, left:right], bias, rule)
                p = _weights(scores, sinks, rule)
                if _keeps(bunch, rule):
                    kept.append(p)
                if rule.dropout > 0:
                    kept.append(keep_mask(p.shape, rule.dropout, p.device))
                    p = (p * kept[-1]).div_(1 - rule.dropout)
                found = torch.bmm(p, part.value[:, left:right])
                part.queries[1][:, :, low:high] = found.view(len(found), rule.group, high - low, -1)
        ctx.save_for_backward(q, k, v, out, *([] if sinks is None else [sinks]), *kept)
        ctx.plan, ctx.rule, ctx.sunk, ctx.heads = plan, rule, sinks is not None, heads
        return plan.tokens_of(out, query.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *rest = ctx.saved_tensors
        plan: Plan = ctx.plan
        rule: _Rule = ctx.rule
        heads: int = ctx.heads
        sinks = rest.pop(0) if ctx.sunk else None
        kept = iter(rest)
        wide = torch.promote_types(q.dtype, torch.float32)
        d_out = plan.gradient_rows(gradients[0])
        # sum(P * dP) = sum(dO * O) (Dao et al. 2022, appendix B.2), with dropout too.
        inner = (d_out.to(wide) * out).sum(-1, keepdim=True)
        d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        d_sinks = None if sinks is None else torch.zeros_like(sinks, dtype=torch.promote_types(sinks.dtype, wide))
        for bunch in plan.bunches:
            part = _Folded.of(bunch, (q, d_out, inner, d_q), k, v, rule.group, heads)
            sums = _Folded.of(bunch, (), d_k, d_v, rule.group, heads)
            blocks = list(plan.blocks(bunch))
            # The sums over blocks are kept in float32; a single block needs none.
            totals = [torch.zeros_like(x, dtype=wide) for x in (sums.key, sums.value)] if len(blocks) > 1 else None
            for block in blocks:
                low, high, left, right = block
                p = next(kept) if _keeps(bunch, rule) else None
                mask = next(kept) if rule.dropout > 0 else None
                bias = plan.bias(bunch, block, heads, rule.group, q.dtype)
                cut = (
                    _cut(part.queries[0], low, high),
                    _cut(part.queries[1], low, high),
                    _cut(part.queries[2], low, high),
                )
                given = (*cut, part.key[:, left:right], part.value[:, left:right])
                found = _block_backward(given, p, mask, bias, sinks, rule)
                part.queries[3][:, :, low:high] = found[0].view(len(found[0]), rule.group, high - low, -1)
                if totals is None:
                    sums.key.copy_(found[1])
                    sums.value.copy_(found[2])
                else:
                    totals[0][:, left:right] += found[1]
                    totals[1][:, left:right] += found[2]
                if d_sinks is not None:
                    d_sinks += found[3].view(len(bunch.firsts), -1).sum(0)
            if totals is not None:
                sums.key.copy_(totals[0])
                sums.value.copy_(totals[1])
        given_sinks = None if sinks is None or d_sinks is None else d_sinks.to(sinks.dtype)
        back = (plan.tokens_of(d_q, heads * rule.group), plan.tokens_of(d_k, heads), plan.tokens_of(d_v, heads))
        return *back, given_sinks, None, None


def _keeps(bunch: Bunch, rule: _Rule) -> bool:
    """Whether the weights are kept for the backward pass; it needs the scores again where they were capped."""
    return bunch.short and rule.softcap is None


def _block_backward(
    parts: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    p: Tensor | None,
    kept: Tensor | None,
    bias: Tensor,
    sinks: Tensor | None,
    rule: _Rule,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of one block: query [N, G*n, D], key [N, m, D], value [N, m, Dv], sinks [N, G].

    parts: query, the output's gradient, sum(P * dP), key, value. With weights P and their gradient dP:
    dS = P * (dP - sum(P * dP)). The sink's weight is 1 - sum(P), its own dP is 0.
    """
    q, do, inner, k, v = parts
    bent = None
    if p is None:
        scores, bent = _scores(q, k, bias, rule)
        p = _weights(scores, sinks, rule)
    d_sinks = q.new_zeros(0)
    if sinks is not None:
        lost = (1 - p.to(inner.dtype).sum(-1, keepdim=True)) * inner
        d_sinks = -lost.view(len(q), rule.group, -1).sum(-1)
    if kept is None:
        d_v = torch.bmm(p.transpose(1, 2), do)
        d_s = torch.baddbmm(-inner.to(q.dtype), do, v.transpose(1, 2)).mul_(p)
    else:
        d_v = torch.bmm((p * kept).div_(1 - rule.dropout).transpose(1, 2), do)
        d_p = torch.bmm(do, v.transpose(1, 2)).mul_(kept).div_(1 - rule.dropout)
        d_s = d_p.sub_(inner.to(d_p.dtype)).mul_(p)
    if bent is not None:
        d_s = d_s.mul_(1 - bent * bent)
    # The scores' scale is applied to what is narrow.
    return torch.bmm(d_s, k).mul_(rule.scaling), torch.bmm(d_s.transpose(1, 2), q).mul_(rule.scaling), d_v, d_sinks
