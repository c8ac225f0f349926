"""Which fit this is: a digest of all that its weights come from, so that no checkpoint is taken for another one's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..core.contracts import Row
from ..core.recipe import Phase
from ..core.run import digest_of

__all__ = ["identity_of", "weights_of_model"]


def identity_of(
    model: nn.Module,
    rows: Sequence[Row],
    validation: Sequence[Row],
    phase: Phase,
    seed: int,
    order: Sequence[Sequence[int]] | None,
    rewarded: str = "",
) -> str:
    """SHA-256 over the model's weights as they are now, the encoded rows, the phase's settings, seed and order.

    rewarded: a digest of what rewards go by, of which rows say nothing.
    """
    return digest_of(
        {
            "model": weights_of_model(model),
            "rows": _rows(rows),
            "validation": _rows(validation),
            "phase": phase.model_dump(mode="json", by_alias=True),
            "seed": seed,
            "order": order,
            "rewarded": rewarded,
        }
    )


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_of_model(model: nn.Module) -> list[Any]:
    """Name, shape, dtype and the integer sum of the bits of each parameter, and of each buffer that belongs to the
    weights (those in few bits are buffers): exact in any order, and as fast as memory.

    A cryptographic digest would take as long as loading the model did; this need only tell one start from another.
    """
    saved = model.state_dict().keys()
    buffers = ((name, buffer) for name, buffer in model.named_buffers() if name in saved)
    found: list[Any] = []
    for name, tensor in (*model.named_parameters(), *buffers):
        bits = tensor.detach().contiguous().view(_BITS[tensor.element_size()])
        found.append([name, list(tensor.shape), str(tensor.dtype), int(bits.sum(dtype=torch.int64))])
    return found


def _rows(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        fields = [*sorted(row.fields.items()), *sorted(row.tokens.items())]
        shapes = [(name, str(value.dtype), value.shape) for name, value in fields]
        said = (row.id, len(row.ids), row.branches, row.weight, row.repeat, sorted(row.groups.items()), shapes)
        digest.update(repr(said).encode())
        digest.update(row.ids.tobytes() + row.supervised.tobytes())
        for _, value in fields:
            digest.update(value.tobytes())
        if row.targets is not None:
            digest.update(row.targets.tobytes())
    return digest.hexdigest()
