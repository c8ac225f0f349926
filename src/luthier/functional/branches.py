"""Rows that branch: what belongs to which branch, and the plain sequences that they stand for.

Shapes: S rows, B branches, T tokens of the pack, U tokens of the plain sequences (shared ones once for each branch).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..core.contracts import Batch, Role
from .pack_plan import cost_of
from .packing import segment_sum

__all__ = [
    "Attended",
    "answer_logps",
    "attended",
    "branch_counts",
    "branch_grid",
    "branch_index",
    "branch_sums",
    "only_branch",
    "unshared",
]

_WORTH = 0.5
"""Of what copies cost: above it a sequence with a mask of its own, which computes its weights twice where it is long,
was slower at half of the shapes that were measured.
"""


def branch_index(batch: Batch) -> Tensor:
    """[T] int64: the branch of each token; a shared token has that of the first branch after it."""
    assert batch.branches is not None
    ends = torch.cat([batch.branches[1:, 1], batch.ids.new_tensor([len(batch.ids)])])
    # What the rows after share lies between a branch's end and the next branch's first token.
    last = batch.branches[1:, 0] != batch.branches[:-1, 0]
    ends[:-1][last] = batch.starts[1:-1].to(ends.dtype)
    lengths = torch.diff(ends, prepend=ends.new_zeros(1))
    return torch.arange(len(ends), device=ends.device).repeat_interleave(lengths)


def branch_sums(values: Tensor, batch: Batch) -> Tensor:
    """[B]: the sums of `values` [N], one for each supervised token, over each branch."""
    assert batch.branches is not None
    return segment_sum(values, branch_index(batch)[batch.supervised], len(batch.branches))


def branch_counts(batch: Batch) -> Tensor:
    """[B] float32: the supervised tokens of each branch."""
    return branch_sums(torch.ones(int(batch.supervised.sum()), device=batch.ids.device), batch)


def answer_logps(role: Role, batch: Batch) -> Tensor:
    """[S, k] log-probabilities of answers, summed over their tokens, in nats, of rows that all have k branches."""
    return branch_sums(role.logps(batch), batch).view(batch.size, -1)


def branch_grid(values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """[S, k] of values [B] of branches, a row's beside each other, 0 where it has fewer; and [S, k] where there are."""
    assert batch.branches is not None
    rows = batch.branches[:, 0]
    counts = torch.bincount(rows, minlength=batch.size)
    firsts = counts.cumsum(0) - counts
    number = torch.arange(len(rows), device=rows.device) - firsts.index_select(0, rows)
    width = int(counts.max())
    at = rows * width + number
    grid = values.new_zeros(batch.size * width).index_copy(0, at, values)
    there = torch.zeros(batch.size * width, dtype=torch.bool, device=rows.device).index_fill(0, at, True)
    return grid.view(-1, width), there.view(-1, width)


@dataclass(frozen=True)
class Attended:
    """The sequences in which attention works on rows that branch.

    starts [S'+1]: their boundaries, on the CPU. places [U]: where in the pack their tokens lie; None: just there.
    branches: of each the lengths of the branches that end it, () for none.
    """

    starts: Tensor
    places: Tensor | None
    branches: tuple[tuple[int, ...], ...]


def attended(batch: Batch) -> Attended:
    """Each branch as a sequence behind a copy of what its row shares; or, where that costs less, the row as one
    sequence whose end branches. On CUDA copies, which FlashAttention takes.
    """
    assert batch.branches is not None
    starts = batch.starts.tolist()
    firsts: list[list[int]] = [[] for _ in range(batch.size)]
    for row, first in batch.branches.tolist():
        firsts[row].append(first)
    places, lengths, branches = [], [], []
    for bounds, begin, end in zip(firsts, starts, starts[1:], strict=False):
        shared = bounds[0] - begin
        own = [high - low for low, high in pairwise([*bounds, end])]
        copied = cost_of([shared + length for length in own])
        if len(own) == 1 or (batch.ids.device.type != "cuda" and cost_of([end - begin], alone=True) <= _WORTH * copied):
            places.append(torch.arange(begin, end))
            lengths.append(end - begin)
            branches.append(tuple(own) if len(own) > 1 else ())
            continue
        for low, high in pairwise([*bounds, end]):
            places += [torch.arange(begin, bounds[0]), torch.arange(low, high)]
            lengths.append(shared + high - low)
            branches.append(())
    begins = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    copies = sum(lengths) > len(batch.ids)
    return Attended(begins, torch.cat(places).to(batch.ids.device) if copies else None, tuple(branches))


def unshared(batch: Batch) -> tuple[Batch, Tensor]:
    """The branches as B plain sequences, each with its beginning, and [U] where in the pack each of their tokens lies.

    Supervised tokens are in the same order as in the pack, since no shared one is supervised. Rows, weights, fields and
    groups are those of each branch's row.
    """
    assert batch.branches is not None
    rows, firsts = batch.branches.cpu().T.tolist()
    starts = batch.starts.tolist()
    places, lengths = [], []
    first_of = dict(zip(reversed(rows), reversed(firsts), strict=True))
    for number, (row, first) in enumerate(zip(rows, firsts, strict=True)):
        following = number + 1 < len(rows) and rows[number + 1] == row
        end = firsts[number + 1] if following else starts[row + 1]
        places += [torch.arange(starts[row], first_of[row]), torch.arange(first, end)]
        lengths.append(first_of[row] - starts[row] + end - first)
    at = torch.cat(places).to(batch.ids.device)
    which = batch.branches[:, 0]
    plain = replace(
        batch,
        ids=batch.ids.index_select(0, at),
        starts=torch.tensor([0, *lengths], dtype=batch.starts.dtype).cumsum(0).to(batch.starts),
        positions=batch.positions.index_select(0, at),
        supervised=batch.supervised.index_select(0, at),
        rows=tuple(batch.rows[row] for row in rows),
        weights=batch.weights.index_select(0, which),
        fields={name: value.index_select(0, which) for name, value in batch.fields.items()},
        groups={name: tuple(values[row] for row in rows) for name, values in batch.groups.items()},
        targets=None if batch.targets is None else batch.targets.index_select(0, at),
        branches=None,
    )
    return plain, at


def only_branch(batch: Batch, number: int) -> Batch:
    """The rows as plain sequences, each its beginning with its branch `number` (from 0; -1 is its last)."""
    assert batch.branches is not None
    plain, _ = unshared(batch)
    ends = torch.bincount(batch.branches[:, 0], minlength=batch.size).cumsum(0)
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    chosen = ((ends if number < 0 else begins) + number).tolist()
    bounds = list(pairwise(plain.starts.tolist()))
    at = torch.cat([torch.arange(*bounds[index]) for index in chosen]).to(batch.ids.device)
    kept = torch.zeros_like(plain.supervised).index_fill(0, at, True)[plain.supervised]
    lengths = [bounds[index][1] - bounds[index][0] for index in chosen]
    return replace(
        batch,
        ids=plain.ids.index_select(0, at),
        starts=torch.tensor([0, *lengths], dtype=batch.starts.dtype).cumsum(0).to(batch.starts),
        positions=plain.positions.index_select(0, at),
        supervised=plain.supervised.index_select(0, at),
        targets=None if plain.targets is None else plain.targets.index_select(0, at),
        branches=None,
        tokens={name: value[kept] for name, value in batch.tokens.items()},
    )
