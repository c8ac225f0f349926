"""Attention of one new token a sequence over the keys and values kept for it.

softmax(scaling * q k^T) v (Vaswani et al. 2017, eq. 1), the query heads over one key head (Ainslie et al. 2023) taken
as the rows of one batched product, so that kept keys and values are read once and never repeated.

Shapes: B sequences, G query heads over each of Hk key heads, D and Dv wide, C places for keys. Softmax is computed in
float32 (float64 for float64).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cached_attention", "hidden_places"]


def cached_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    hidden: Tensor,
    *,
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """[B * Hk, G, Dv]. query [B * Hk, G, D]; keys [B * Hk, C, D]; values [B * Hk, C, Dv].

    hidden: [B * Hk, 1, C] as from `hidden_places`. softcap: cap * tanh(s / cap) (Gemma 2). sinks [Hk * G]: a logit a
    head that gives nothing (GPT-OSS).
    """
    scores = torch.bmm(query, keys.transpose(1, 2))
    if softcap is None:
        exact = torch.add(hidden, scores, alpha=scaling)
    else:
        exact = hidden + torch.tanh(scores * (scaling / softcap)) * softcap
    if sinks is None:
        return torch.bmm(torch.softmax(exact, dim=-1).to(values.dtype), values)
    extra = sinks.to(exact.dtype).view(-1, query.shape[1], 1)
    exact = torch.cat([exact, extra.repeat(len(query) // len(extra), 1, 1)], dim=-1)
    return torch.bmm(torch.softmax(exact, dim=-1)[..., :-1].to(values.dtype), values)


def hidden_places(positions: Tensor, places: int, heads: int, window: int | None) -> Tensor:
    """[B * heads, 1, places] float32: -inf at the places that the token at `positions` [B] must not see, 0 elsewhere.

    Place j holds the key of position j; i sees j if j <= i, and with a window only if i - j < window.
    """
    place = torch.arange(places, device=positions.device)
    unseen = place > positions[:, None]
    if window is not None:
        unseen |= place <= positions[:, None] - window
    found = torch.zeros(unseen.shape, device=positions.device).masked_fill_(unseen, float("-inf"))
    return found.repeat_interleave(heads, dim=0)[:, None]
