"""Keys and values that were trained, and that every token attends to beside the text.

    o + tanh(g) softmax(q K^T * scaling) V        o: attention among the text's own tokens; g: a gate for each head

Sources: Li and Liang 2021 (prefix-tuning, arXiv:2101.00190), with a softmax of its own and a gate that is zero at
first, as Zhang et al. 2023 have them (LLaMA-Adapter, arXiv:2303.16199, equations 4 to 8): so nothing changes before the
first step, and a text attends as it would without. Keys have no position; where a sequence begins makes no difference,
so packs, caches and padding know nothing of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Prefix"]


class Prefix(nn.Module):
    """Of one attention layer: keys [Hk, P, D], values [Hk, P, Dv], gates [H]; float32 over a base of any dtype.

    Query head h reads the keys of head h // (H / Hk), as grouped queries do.
    """

    def __init__(
        self, length: int, queries: int, keys: int, key_width: int, value_width: int, device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(keys, length, key_width).to(device))
        self.values = nn.Parameter(torch.randn(keys, length, value_width).to(device))
        self.gates = nn.Parameter(torch.zeros(queries, device=device))

    def forward(self, query: Tensor, scaling: float | None) -> Tensor:
        """[B, L, H, Dv] for query [B, H, L, D], in its dtype; scaling None: 1 / sqrt(D)."""
        rows, _, length, width = query.shape
        grouped = query.reshape(rows, len(self.keys), -1, length, width)
        scores = grouped @ self.keys.to(query.dtype).mT[:, None]
        weights = (scores.float() * (width**-0.5 if scaling is None else scaling)).softmax(-1).to(query.dtype)
        found = (weights @ self.values.to(query.dtype)[:, None]).flatten(1, 2)
        gated: Tensor = found * self.gates.tanh().to(query.dtype)[:, None, None]
        return gated.transpose(1, 2)
