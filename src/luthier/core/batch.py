"""Rows, batches and terms: what an objective encodes into, is handed, and gives back.

A row may branch: its beginning is shared, and each branch goes on from it alone, as several answers to one prompt do.
The shared tokens then go through a model once. Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Batch", "Bools", "Floats", "Ints", "Row", "Term"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Row:
    """One encoded row before packing: a sequence, or several that begin alike.

    ids: [L] token ids. supervised: [L] True where the token is a target (without `targets` never at 0: nothing
    precedes it).
    fields: what the objective's encode adds for each sequence, e.g. {"label": int array of shape []}.
    repeat: how often it comes in an epoch, on average.
    targets: [L] what is to be said at each supervised token (a word in place of a mask, a tag), which sees the whole
    row; None: the token itself, told by what precedes it.
    branches: lengths of the branches at the row's end; what is before them is the beginning of each. A branch starts
    with a token that is not supervised: the last one of the prompt, so that what it predicts lies beside it.
    tokens: [n, ...] of each of its supervised tokens, in order: what another role said there.
    views: what another role is shown in place of this row, by role: the same text in tokens of its own.
    types: [L] the segment of each token (0 a question, 1 its context) for models that embed it too; None: all 0.
    A row with types does not branch.
    """

    id: str
    ids: Ints
    supervised: Bools
    weight: float = 1.0
    groups: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    repeat: float = 1.0
    targets: Ints | None = None
    branches: tuple[int, ...] = ()
    tokens: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    types: Ints | None = None
    views: Mapping[str, Row] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Packed rows, end to end, without padding. S rows, T tokens.

    ids [T] int64; starts [S+1] int32 cumulative lengths; positions [T] from 0 in each sequence;
    supervised [T] bool; rows: S ids; weights [S] float32; fields: [S, ...] what the objective's encode added.
    targets: [T] int64, or None, as in Row.
    branches: [B, 2] int64, or None: of each branch its row and its first token, in order; a branch ends where the next
    one or its row does.
    tokens: [N, ...] of each supervised token, in order, as in Row.
    types: [T] int64, or None, as in Row.
    views: the same rows as other roles are shown them, as in Row.
    """

    ids: Tensor
    starts: Tensor
    positions: Tensor
    supervised: Tensor
    rows: tuple[str, ...]
    weights: Tensor
    fields: Mapping[str, Tensor] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    targets: Tensor | None = None
    branches: Tensor | None = None
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    types: Tensor | None = None
    views: Mapping[str, Batch] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """S, the number of rows."""
        return len(self.rows)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return replace(
            self,
            ids=move(self.ids),
            starts=move(self.starts),
            positions=move(self.positions),
            supervised=move(self.supervised),
            weights=move(self.weights),
            fields={name: move(value) for name, value in self.fields.items()},
            targets=None if self.targets is None else move(self.targets),
            branches=None if self.branches is None else move(self.branches),
            tokens={name: move(value) for name, value in self.tokens.items()},
            types=None if self.types is None else move(self.types),
            views={name: view.to(device) for name, view in self.views.items()},
        )

    def with_fields(self, **fields: Tensor) -> Batch:
        """The same batch with these fields added or put in place of others of their name."""
        return replace(self, fields={**self.fields, **fields})


@dataclass(frozen=True)
class Term:
    """Sums of a loss, one a row ([S]), or [1] for what is evaluated once a step. The engine divides.

    figures: [S] each, what is told beside the loss (a margin, an accuracy); divided as the totals are, never learned.
    """

    name: str
    totals: Tensor
    weight: float = 1.0
    figures: Mapping[str, Tensor] = field(default_factory=dict)
