"""Packing: rows cut into packs and laid end to end without padding, and sums over the rows of a pack.

Shapes: S rows, T tokens. Errors: AssertionError for rows that no encoder may make (empty, or with a supervised first
token, of the row or of a branch: nothing precedes it, so in a pack it would be predicted from the sequence before).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from ..core.contracts import Batch, Ints, Row

__all__ = ["micro_batches", "pack", "segment_sum", "sequence_index"]


def pack(rows: Sequence[Row]) -> Batch:
    """One batch of all rows, end to end, in their order; positions restart at 0 in each.

    Fields are stacked to [S, ...]; every row must have the same ones. A group that a row lacks is the empty string.
    """
    assert rows, "a batch needs at least one row"
    for row in rows:
        assert len(row.ids) > 0, f"row {row.id} is empty"
        assert len(row.ids) == len(row.supervised), f"row {row.id}: {len(row.ids)} ids, {len(row.supervised)} marks"
        preceded = row.targets is not None or not row.supervised[0]
        assert preceded, f"row {row.id}: its first token is supervised, but nothing precedes it"
        assert row.targets is None or len(row.ids) == len(row.targets), f"row {row.id}: a target for each id"
        assert row.fields.keys() == rows[0].fields.keys(), f"row {row.id} has other fields than row {rows[0].id}"
        assert row.tokens.keys() == rows[0].tokens.keys(), f"row {row.id} has other tokens than row {rows[0].id}"
        assert all(len(value) == row.supervised.sum() for value in row.tokens.values()), f"row {row.id}: tokens"
        assert bool(row.branches) == bool(rows[0].branches), "some rows branch and some do not"
        assert row.views.keys() == rows[0].views.keys(), f"row {row.id} has other views than row {rows[0].id}"
        assert row.types is None or (len(row.ids) == len(row.types) and not row.branches), f"row {row.id}: types"
        firsts = _firsts(row)
        assert min(firsts, default=0) >= 0, f"row {row.id}: branches {row.branches} of {len(row.ids)} tokens"
        assert not row.supervised[firsts].any(), f"row {row.id}: the first token of a branch is supervised"
        assert not row.supervised[: min(firsts, default=0)].any(), f"row {row.id}: a shared token is supervised"
    lengths = [len(row.ids) for row in rows]
    groups = sorted({name for row in rows for name in row.groups})
    return Batch(
        ids=torch.from_numpy(np.concatenate([row.ids for row in rows]).astype(np.int64, copy=False)),
        starts=torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32)),
        positions=torch.from_numpy(np.concatenate([_positions(row) for row in rows])),
        supervised=torch.from_numpy(np.concatenate([row.supervised for row in rows]).astype(np.bool_, copy=False)),
        rows=tuple(row.id for row in rows),
        weights=torch.tensor([row.weight for row in rows], dtype=torch.float32),
        fields={name: torch.from_numpy(np.stack([row.fields[name] for row in rows])) for name in rows[0].fields},
        groups={name: tuple(row.groups.get(name, "") for row in rows) for name in groups},
        targets=_joined([row.targets for row in rows], "targets"),
        branches=_branches(rows) if rows[0].branches else None,
        tokens={name: torch.from_numpy(np.concatenate([row.tokens[name] for row in rows])) for name in rows[0].tokens},
        types=_joined([row.types for row in rows], "types"),
        views={name: pack([row.views[name] for row in rows]) for name in rows[0].views},
    )


def _firsts(row: Row) -> list[int]:
    """The first token of each branch."""
    shared = len(row.ids) - sum(row.branches)
    return [shared + before for before in accumulate(row.branches[:-1], initial=0)] if row.branches else []


def _positions(row: Row) -> Ints:
    """[L] from 0; each branch goes on from what is shared."""
    if not row.branches:
        return np.arange(len(row.ids), dtype=np.int64)
    shared = len(row.ids) - sum(row.branches)
    return np.concatenate([np.arange(shared), *(shared + np.arange(length) for length in row.branches)])


def _branches(rows: Sequence[Row]) -> Tensor:
    """[B, 2]: of each branch its row and its first token in the pack."""
    begins = accumulate((len(row.ids) for row in rows), initial=0)
    placed = enumerate(zip(rows, begins, strict=False))
    found = [(number, begin + first) for number, (row, begin) in placed for first in _firsts(row)]
    return torch.tensor(found, dtype=torch.int64)


def _joined(given: Sequence[Ints | None], what: str) -> Tensor | None:
    """[T] of rows that all have [L], or none of them."""
    found = [one for one in given if one is not None]
    assert len(found) in (0, len(given)), f"some rows have {what} and some have none"
    return torch.from_numpy(np.concatenate(found).astype(np.int64, copy=False)) if found else None


def micro_batches(indices: Sequence[int], lengths: Sequence[int], micro_tokens: int) -> list[list[int]]:
    """A step's rows cut, in order, into runs of at most `micro_tokens` tokens; a longer row is a run of its own."""
    runs: list[list[int]] = []
    room = 0
    for index in indices:
        if not runs or lengths[index] > room:
            runs.append([])
            room = micro_tokens
        runs[-1].append(index)
        room -= lengths[index]
    return runs


def sequence_index(starts: Tensor) -> Tensor:
    """[T] int64: the number (0 to S-1) of the sequence that each token belongs to."""
    lengths = starts.diff()
    return torch.arange(len(lengths), device=starts.device).repeat_interleave(lengths)


def segment_sum(values: Tensor, index: Tensor, segments: int) -> Tensor:
    """[segments, ...]: the sum of `values` [N, ...] whose `index` [N] names the segment; 0 for an empty one.

    index_add and its backward (index_select) give the same bits every time on a CPU; index_put(accumulate) does not.
    """
    return values.new_zeros((segments, *values.shape[1:])).index_add(0, index, values)
