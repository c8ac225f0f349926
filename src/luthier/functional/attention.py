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
from .flash import flash_attention
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
    branches: tuple[tuple[int, ...], ...] = (),
) -> Tensor:
    """[T, Hq, Dv]: each sequence of the pack attends to itself.

    query [T, Hq, D]; key [T, Hk, D]; value [T, Hk, Dv]; Hk divides Hq. starts [S+1]: cumulative lengths from 0 to T
    (keep it on the CPU: its values are read). window: i sees j only if |i - j| < window. softcap: cap * tanh(s / cap)
    (Gemma 2). sinks [Hq]: a logit a head that takes part in the softmax and gives nothing (GPT-OSS). dropout: the
    probability with which a weight is dropped; the caller passes 0 outside training. branches: of each sequence the
    lengths of those that end it, () for none; each sees what is before all of them and itself, and stands right behind
    that for a window. Once differentiable.
    """
    assert query.shape[1] % key.shape[1] == 0, f"{key.shape[1]} key heads do not divide {query.shape[1]} query heads"
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    rule = _Rule(scaling, softcap, dropout, query.shape[1] // key.shape[1])
    branches = branches if any(branches) else ()
    bounds = tuple(int(bound) for bound in starts.tolist())
    assert bounds[-1] == len(query), f"the boundaries end at {bounds[-1]}, the pack at {len(query)}"

    def products(q: Tensor, k: Tensor, v: Tensor, bounds: tuple[int, ...], window: int | None) -> Tensor:
        plan = plan_of(bounds, causal, window, q.device, branches)
        output: Tensor = _PackedAttention.apply(q, k, v, sinks, plan, rule)  # type: ignore[no-untyped-call]
        return output

    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    with torch.autocast(kind, enabled=False):
        if softcap is None and sinks is None and dropout == 0 and not branches:
            ready = flash_attention(
                query, key, value, bounds, scaling=scaling, causal=causal, window=window, products=products
            )
            if ready is not None:
                return ready
        return products(query, key, value, bounds, window)


@dataclass(frozen=True)
class _Rule:
    """What all sequences of a call share; `group` is the number of query heads over one key head."""

    scaling: float
    softcap: float | None
    dropout: float
    group: int


def _scores(q: Tensor, k: Tensor, bias: Tensor | None, rule: _Rule) -> tuple[Tensor, Tensor | None]:
    """Masked scores [N, G*n, m] for q [N, G*n, D], k [N, m, D]; and tanh of the capped ones where there is a cap."""
    if rule.softcap is None:
        added = q.new_zeros(1, 1, 1) if bias is None else bias
        return torch.baddbmm(added, q, k.mT, alpha=rule.scaling, beta=0 if bias is None else 1), None
    bent = torch.bmm(q, k.transpose(1, 2)).mul_(rule.scaling / rule.softcap).tanh_()
    scores = bent * rule.softcap
    return scores if bias is None else scores.add_(bias), bent


def _weights(scores: Tensor, sinks: Tensor | None, rule: _Rule) -> Tensor:
    """Softmax over the keys, in the scores' dtype, computed in float32."""
    # For whole vectors torch's kernel for bfloat16 gives the bits of float32's, rounded, in less time; else in more.
    whole = scores.shape[-1] % 32 == 0 and sinks is None
    exact = scores if whole or scores.dtype == torch.float64 else scores.float()
    if sinks is None:
        return torch.softmax(exact, dim=-1).to(scores.dtype)
    rows, queries, _ = scores.shape
    extra = sinks.to(exact.dtype).view(-1, rule.group).repeat(rows * rule.group // len(sinks), 1)
    extra = extra[:, :, None].expand(rows, rule.group, queries // rule.group).reshape(rows, queries, 1)
    return torch.softmax(torch.cat([exact, extra], dim=-1), dim=-1)[..., :-1].to(scores.dtype)


def _queries(rows: Tensor, bunch: Bunch, heads: int, group: int, block: tuple[int, int, int, int]) -> Tensor:
    """A block's part [B * Hk, G * n, .] of rows of Hq heads: a view where the block holds all queries, else a copy."""
    low, high, _, _ = block
    folded = bunch.view(rows, heads * group).view(-1, group, bunch.length, rows.shape[-1])
    return folded[:, :, low:high].reshape(len(folded), -1, rows.shape[-1])


def _put(rows: Tensor, found: Tensor, bunch: Bunch, heads: int, group: int, block: tuple[int, int, int, int]) -> None:
    """Writes a block's [B * Hk, G * n, .] to its places in rows of Hq heads."""
    low, high, _, _ = block
    folded = bunch.view(rows, heads * group).view(-1, group, bunch.length, rows.shape[-1])
    folded[:, :, low:high] = found.view(len(folded), group, high - low, -1)


class _PackedAttention(torch.autograd.Function):
    """Forward and backward over bunches and blocks; keeps rows of query, key, value and output, and short weights."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, plan: Plan, rule: _Rule
    ) -> Tensor:
        heads, group = key.shape[1], rule.group
        q, k, v = plan.rows(query), plan.rows(key), plan.rows(value)
        out = v.new_empty(len(q), v.shape[-1])
        kept: list[Tensor] = []
        learns = any(ctx.needs_input_grad)
        for bunch in plan.bunches:
            keys, values = bunch.view(k, heads), bunch.view(v, heads)
            for block in plan.blocks(bunch):
                left, right = block[2:]
                bias = plan.bias(bunch, block, heads, group, q.dtype)
                scores, _ = _scores(_queries(q, bunch, heads, group, block), keys[:, left:right], bias, rule)
                p = _weights(scores, sinks, rule)
                if learns and _keeps(bunch, rule):
                    kept.append(p)
                if rule.dropout > 0:
                    kept.append(keep_mask(p.shape, rule.dropout, p.device))
                    p = (p * kept[-1]).div_(1 - rule.dropout)
                if bunch.short:
                    torch.bmm(p, values, out=_queries(out, bunch, heads, group, block))
                else:
                    _put(out, torch.bmm(p, values[:, left:right]), bunch, heads, group, block)
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
        # -sum(P * dP) = -sum(dO * O) (Dao et al. 2022, appendix B.2), with dropout too.
        inner = (d_out.to(wide) * out).sum(-1, keepdim=True).neg_()
        d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        d_sinks = None if sinks is None else torch.zeros_like(sinks, dtype=torch.promote_types(sinks.dtype, wide))
        for bunch in plan.bunches:
            keys, values, d_keys, d_values = (bunch.view(x, heads) for x in (k, v, d_k, d_v))
            # The sums over blocks are kept in float32; a single block needs none.
            sums = None if bunch.short else [torch.zeros_like(x, dtype=wide) for x in (d_keys, d_values)]
            for block in plan.blocks(bunch):
                left, right = block[2:]
                p = next(kept) if _keeps(bunch, rule) else None
                mask = next(kept) if rule.dropout > 0 else None
                bias = plan.bias(bunch, block, heads, rule.group, q.dtype)
                given = _Block(
                    _queries(q, bunch, heads, rule.group, block),
                    _queries(d_out, bunch, heads, rule.group, block),
                    _queries(inner, bunch, heads, rule.group, block),
                    keys[:, left:right],
                    values[:, left:right],
                )
                used, d_s, lost = given.slopes(p, mask, bias, sinks, rule)
                into = _queries(d_q, bunch, heads, rule.group, block)
                torch.baddbmm(into, d_s, given.key, beta=0, alpha=rule.scaling, out=into)
                if sums is None:
                    torch.baddbmm(d_keys, d_s.mT, given.query, beta=0, alpha=rule.scaling, out=d_keys)
                    torch.bmm(used.mT, given.d_out, out=d_values)
                else:
                    _put(d_q, into, bunch, heads, rule.group, block)
                    sums[1][:, left:right] += torch.bmm(used.mT, given.d_out)
                    sums[0][:, left:right] += torch.bmm(d_s.mT, given.query).mul_(rule.scaling)
                if d_sinks is not None:
                    d_sinks += lost.view(len(bunch.firsts), -1).sum(0)
            if sums is not None:
                d_keys.copy_(sums[0])
                d_values.copy_(sums[1])
        given_sinks = None if sinks is None or d_sinks is None else d_sinks.to(sinks.dtype)
        back = (plan.tokens_of(d_q, heads * rule.group), plan.tokens_of(d_k, heads), plan.tokens_of(d_v, heads))
        return *back, given_sinks, None, None


def _keeps(bunch: Bunch, rule: _Rule) -> bool:
    """Whether the weights are kept for the backward pass; it needs the scores again where they were capped."""
    return bunch.short and rule.softcap is None


@dataclass(frozen=True)
class _Block:
    """A block in the backward pass: query, gradient of the output [N, G*n, .], -sum(P * dP), key, value [N, m, .]."""

    query: Tensor
    d_out: Tensor
    inner: Tensor
    key: Tensor
    value: Tensor

    def slopes(
        self, p: Tensor | None, kept: Tensor | None, bias: Tensor | None, sinks: Tensor | None, rule: _Rule
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The weights as they were used, gradients of the scores before their scale [N, G*n, m], of the sinks [N, G].

        With weights P and their gradient dP: dS = P * (dP - sum(P * dP)). The sink's weight is 1 - sum(P), its own dP
        is 0.
        """
        bent = None
        if p is None:
            scores, bent = _scores(self.query, self.key, bias, rule)
            p = _weights(scores, sinks, rule)
        d_sinks = self.query.new_zeros(0)
        if sinks is not None:
            lost = (1 - p.to(self.inner.dtype).sum(-1, keepdim=True)) * self.inner
            d_sinks = lost.view(len(p), rule.group, -1).sum(-1)
        inner = self.inner.to(p.dtype)
        if kept is None:
            used, d_s = p, torch.baddbmm(inner, self.d_out, self.value.mT).mul_(p)
        else:
            used = (p * kept).div_(1 - rule.dropout)
            d_p = torch.bmm(self.d_out, self.value.mT).mul_(kept).div_(1 - rule.dropout)
            d_s = d_p.add_(inner).mul_(p)
        return used, d_s if bent is None else d_s.mul_(1 - bent * bent), d_sinks
