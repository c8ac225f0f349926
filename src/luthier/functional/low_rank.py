"""Norms of low-rank matrices from their factors, without ever forming the product."""

from __future__ import annotations

from torch import Tensor

__all__ = ["squared_norm_of_change"]


def squared_norm_of_change(up: Tensor, down: Tensor, up_before: Tensor, down_before: Tensor) -> Tensor:
    """||B A - B0 A0||^2 (Frobenius), with B [out, r], A [r, in]: r x r products instead of out x in ones.

    <B A, C D> = tr((B A)^T C D) = sum(B^T C * A D^T), hence ||BA||^2 - 2 <BA, B0 A0> + ||B0 A0||^2. Exact where B0 is
    zero; else rounding is relative to the norms of the two products and not of their difference.
    """

    def inner(b: Tensor, a: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return ((b.mT @ c) * (a @ d.mT)).sum()

    return (
        inner(up, down, up, down)
        - 2 * inner(up, down, up_before, down_before)
        + inner(up_before, down_before, up_before, down_before)
    )
