"""Losses that draw texts which belong together near each other, and others apart: in-batch negatives and triplets.

Shapes: N rows of K texts, H wide: an anchor, its positive, and K - 2 negatives of its own; `there` [N, K] says which
texts a row has, `same` [N, K] names each text's content (or its class): texts with one name, and texts that are anchor
and positive of some row, are never drawn apart. U names in all.
Source: van den Oord et al. 2018 (arXiv:1807.03748), eq. 4; Henderson et al. 2017 (arXiv:1705.00652), section 4;
triplets: Schroff et al. 2015 (arXiv:1503.03832), eq. 3, whose distances on the unit sphere are twice these.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["ranking_losses", "triplet_losses"]

_TOGETHER = 1024
"""Anchors whose similarities to all candidates are held at a time, in the backward pass too."""


def ranking_losses(
    vectors: Tensor, there: Tensor, same: Tensor, counted: Tensor, *, scale: float, symmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """([N] losses in nats, [N] how often the positive comes first: 1 or 0) of vectors [N, K, H] of any length.

    -log softmax of the positive's cosine times `scale`, among the positives and negatives of all rows. symmetric: the
    mean with the loss of finding the anchor among all anchors. counted [N] bool: rows whose texts others are held
    against; the rest only learn.
    """
    unit = F.normalize(vectors, dim=-1)
    anchors, positives = unit[:, 0], unit[:, 1]
    own = there[:, 2:].reshape(-1)
    candidates = torch.cat([positives, unit[:, 2:].reshape(-1, unit.shape[-1])[own]])
    _, texts = torch.unique(same, return_inverse=True)
    names = torch.cat([texts[:, 1], texts[:, 2:].reshape(-1)[own]])
    apart = torch.cat([counted, counted.repeat_interleave(there.shape[1] - 2)[own]])

    def told(rows: Tensor) -> tuple[Tensor, Tensor]:
        near = scale * (anchors[rows] @ candidates.T)
        hidden = _together(texts, texts[rows, 0]).index_select(1, names) | ~apart
        losses, right = _told(near, hidden, rows)
        if symmetric:
            back = scale * (positives[rows] @ anchors.T)
            hidden = _together(texts, texts[rows, 1]).index_select(1, texts[:, 0]) | ~counted
            losses = (losses + _told(back, hidden, rows)[0]) / 2
        return losses, right

    parts = torch.split(torch.arange(len(unit), device=unit.device), _TOGETHER)
    if len(parts) == 1:
        return told(parts[0])
    found = [checkpoint(told, rows, use_reentrant=False, preserve_rng_state=False) for rows in parts]
    losses, right = zip(*found, strict=True)
    return torch.cat(losses), torch.cat(right)


def triplet_losses(vectors: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """([N] losses, [N] how often the positive is nearer: 1 or 0) of vectors [N, 3, H]: what the negative lacks of being
    farther from the anchor by `margin`, in one less the cosine.
    """
    unit = F.normalize(vectors, dim=-1)
    positive, negative = (1 - (unit[:, 0] * unit[:, place]).sum(-1) for place in (1, 2))
    return (positive - negative + margin).relu(), (positive < negative).detach().to(vectors.dtype)


def _together(texts: Tensor, asked: Tensor) -> Tensor:
    """[n, U] the names that belong with each one of `asked` [n]: itself, the positives of rows [N, K] whose anchor it
    is, and the anchors of those whose positive it is.
    """
    names, back = torch.unique(asked, return_inverse=True)
    numbers = torch.arange(len(names), device=texts.device)
    number = texts.new_full((int(texts.max()) + 1,), -1).index_copy(0, names, numbers)
    table = torch.zeros(len(names), len(number), dtype=torch.bool, device=texts.device)
    table[numbers, names] = True
    for one, other in ((0, 1), (1, 0)):
        at = number[texts[:, one]]
        table[at[at >= 0], texts[at >= 0, other]] = True
    return table.index_select(0, back)


def _told(near: Tensor, hidden: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each row, whose own candidate has its number, and whether that one comes first."""
    wanted = torch.zeros_like(hidden).scatter_(1, own[:, None], True)
    shown = near.masked_fill(hidden & ~wanted, float("-inf"))
    chosen = shown.gather(1, own[:, None])[:, 0]
    return shown.logsumexp(-1) - chosen, (shown.argmax(-1) == own).to(near.dtype)
