"""Losses that draw texts which belong together near each other, and others apart: in-batch negatives and triplets.

Shapes: N rows of K texts, H wide: an anchor, its positive, and K - 2 negatives of its own; `there` [N, K] says which
texts a row has, `same` [N, K] names each text's content (or its class): texts with one name are never drawn apart.
Source: van den Oord et al. 2018 (arXiv:1807.03748), eq. 4; Henderson et al. 2017 (arXiv:1705.00652), section 4;
triplets: Schroff et al. 2015 (arXiv:1503.03832), eq. 3, whose distances on the unit sphere are twice these.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ranking_losses", "triplet_losses"]

_TOGETHER = 1024
"""Anchors whose similarities to all candidates are held at a time."""


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
    names = torch.cat([same[:, 1], same[:, 2:].reshape(-1)[own]])
    apart = torch.cat([counted, counted.repeat_interleave(there.shape[1] - 2)[own]])
    asked = torch.cat([same[:, 0], names[len(same) :]])  # a negative stands for itself, whoever asks
    found, first = [], []
    for rows in _parts(len(unit), unit.device):
        near = scale * (anchors[rows] @ candidates.T)
        hidden = _alike(names, same[rows]) | (asked == same[rows, :1]) | ~apart
        losses, right = _told(near, hidden, rows)
        if symmetric:
            back = scale * (positives[rows] @ anchors.T)
            hidden = _alike(same[:, 0], same[rows]) | (same[:, 1] == same[rows, 1:2]) | ~counted
            losses = (losses + _told(back, hidden, rows)[0]) / 2
        found.append(losses)
        first.append(right)
    return torch.cat(found), torch.cat(first)


def triplet_losses(vectors: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """([N] losses, [N] how often the positive is nearer: 1 or 0) of vectors [N, 3, H]: what the negative lacks of being
    farther from the anchor by `margin`, in one less the cosine.
    """
    unit = F.normalize(vectors, dim=-1)
    positive, negative = (1 - (unit[:, 0] * unit[:, place]).sum(-1) for place in (1, 2))
    return (positive - negative + margin).relu(), (positive < negative).detach().to(vectors.dtype)


def _parts(size: int, device: torch.device) -> Iterator[Tensor]:
    for low in range(0, size, _TOGETHER):
        yield torch.arange(low, min(low + _TOGETHER, size), device=device)


def _alike(names: Tensor, own: Tensor) -> Tensor:
    """[n, M]: candidates that are the row's own anchor or positive once more."""
    return (names == own[:, :1]) | (names == own[:, 1:2])


def _told(near: Tensor, hidden: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each row, whose own candidate has its number, and whether that one comes first."""
    wanted = torch.zeros_like(hidden).scatter_(1, own[:, None], True)
    shown = near.masked_fill(hidden & ~wanted, float("-inf"))
    chosen = shown.gather(1, own[:, None])[:, 0]
    return shown.logsumexp(-1) - chosen, (shown.argmax(-1) == own).to(near.dtype)
