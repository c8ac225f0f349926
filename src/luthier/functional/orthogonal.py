"""Matrices turned toward the nearest orthogonal one, in products alone: Newton and Schulz's iteration as Muon takes it.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/
muon).
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["orthogonalized"]

A, B, C = 3.4445, -4.7750, 2.0315
"""The quintic a x + b x^3 + c x^5 of the source: five rounds bring singular values from 0.01 on to 0.7 ... 1.2."""


def orthogonalized(matrix: Tensor, rounds: int = 5) -> Tensor:
    """[R, C] -> [R, C] bf16: about U V^T of the matrix U S V^T, by so many rounds of the quintic iteration."""
    wide = matrix.bfloat16() if matrix.shape[0] <= matrix.shape[1] else matrix.bfloat16().T
    # Spectral norm at most 1: the Frobenius norm is no smaller.
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(rounds):
        gram = wide @ wide.T
        wide = wide.addmm(gram.addmm(gram, gram, beta=B, alpha=C), wide, beta=A)
    turned: Tensor = wide if matrix.shape[0] <= matrix.shape[1] else wide.T
    return turned
