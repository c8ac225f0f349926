"""How the sequences of a pack are laid out for batched products: made once a pack, used by every layer and backward.

Sequences of about one length form a bunch, computed as one batch. All bunches lie one after the other in one tensor of
rows, reached from the pack and back by one gather each:

    token t, head h  <->  row of (bunch, sequence, head, place), so that a bunch is a plain view [B * heads, L, D]

Short sequences are filled up to a common length with their last token; what fills is hidden as a key, and its
gradient is zeroed where it is a query. A sequence whose end branches is a bunch of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise

import torch
from torch import Tensor

__all__ = ["BLOCK", "Bunch", "Plan", "cost_of", "plan_of"]

BLOCK = 256
"""Queries of a block. Longer sequences are cut, so that causal attention skips most of what it cannot see."""
_MOVED = 128
"""Scores that cost as much as bringing a token to its place and back, for the backward pass too (a core, 32 wide)."""
_ALONE = 2**12
"""Scores that cost as much as a product of its own for one sequence."""
_SCORES = 2**19
"""Scores of a head that one product may hold: many short sequences go together, long ones alone."""


@dataclass(frozen=True)
class Bunch:
    """B = len(firsts) sequences as rows of `length` places from place `start` on; lengths are their own.

    branches: the lengths of those that end the bunch's only sequence: each sees what is before all of them, and itself.
    """

    start: int
    length: int
    firsts: tuple[int, ...]
    lengths: tuple[int, ...]
    branches: tuple[int, ...] = ()

    @property
    def filled(self) -> bool:
        """Whether some place holds no token of its own."""
        return min(self.lengths) < self.length

    @property
    def shared(self) -> int:
        """Of a sequence that branches, the places before its branches; of others all."""
        return self.lengths[0] - sum(self.branches) if self.branches else self.length

    @property
    def short(self) -> bool:
        """Whether a single block holds all queries."""
        return self.length <= BLOCK

    def view(self, rows: Tensor, heads: int) -> Tensor:
        """The bunch's part [B * heads, length, D] of rows [places * heads, D]."""
        low, count = self.start * heads, len(self.firsts) * self.length * heads
        return rows[low : low + count].view(-1, self.length, rows.shape[-1])


@dataclass(frozen=True)
class _Heads:
    """The gathers for one number of heads: into rows, back to [T * heads], and the rows that only fill (or None)."""

    into: Tensor
    back: Tensor
    filling: Tensor | None


@dataclass(frozen=True)
class Plan:
    """The bunches of a pack and its gathers; `window` and `causal` say what a query may see."""

    bunches: tuple[Bunch, ...]
    tokens: int
    causal: bool
    window: int | None
    device: torch.device
    _heads: dict[int, _Heads] = field(default_factory=dict)
    _masks: dict[tuple[object, ...], Tensor | None] = field(default_factory=dict)

    def rows(self, x: Tensor) -> Tensor:
        """[T, heads, D] -> [places * heads, D]; a place that only fills holds the token before it."""
        return x.reshape(-1, x.shape[-1]).index_select(0, self._gathers(x.shape[1]).into)

    def gradient_rows(self, x: Tensor) -> Tensor:
        """As `rows`, zero where a place only fills, so that it teaches nothing."""
        found, filling = self.rows(x), self._gathers(x.shape[1]).filling
        return found if filling is None else found.index_fill_(0, filling, 0)

    def tokens_of(self, rows: Tensor, heads: int) -> Tensor:
        """[places * heads, D] -> [T, heads, D]."""
        return rows.index_select(0, self._gathers(heads).back).view(self.tokens, heads, rows.shape[-1])

    def blocks(self, bunch: Bunch) -> Iterator[tuple[int, int, int, int]]:
        """Blocks of queries [low, high) with the keys [left, right) that any of them can see."""
        for low in range(0, bunch.length, BLOCK):
            high = min(low + BLOCK, bunch.length)
            reach = self.window
            # A branch stands right behind what is shared, however far from it it lies.
            left = 0 if reach is None else max(0, min(low, bunch.shared) - reach + 1)
            right = bunch.length if reach is None else min(bunch.length, high + reach - 1)
            yield low, high, left, min(right, high) if self.causal else right

    def bias(
        self, bunch: Bunch, block: tuple[int, int, int, int], heads: int, group: int, dtype: torch.dtype
    ) -> Tensor | None:
        """What is added to the scores [B * heads, group * queries, keys]: -inf where a query must not see a key.

        It broadcasts to that shape; None where all is seen.
        """
        low, high, left, right = block
        if high > bunch.shared:
            return self._other_branches(bunch, block, group, dtype)
        if self.causal and self.window is None:
            return self._later_keys(high - low, right, group, dtype)
        filled = bunch.filled and not self.causal  # What fills comes last: no causal query of a token sees it.
        whose = (bunch.start, heads) if filled else ()
        key = (dtype, group, high - low, low - left, right - left, *whose)
        if key not in self._masks:
            hidden = self._hidden(block)
            found = None if hidden is None else self._as_bias(hidden, group, dtype)
            if filled:
                filling = self._filling(bunch, left, right, heads, dtype)
                found = filling if found is None else filling + found
            self._masks[key] = found
        return self._masks[key]

    def _later_keys(self, queries: int, keys: int, group: int, dtype: torch.dtype) -> Tensor:
        """The bias of a block of queries that may see all of `keys` keys but those after their own.

        Only the last places hide anything: all blocks of so many queries look at the right end of the widest one's. One
        for each would grow with the square of the length, and outlive the pack.
        """
        key = (dtype, group, queries)
        found = self._masks.get(key)
        if found is None or found.shape[1] < keys:
            later = torch.ones(queries, keys, dtype=torch.bool, device=self.device).triu(keys - queries + 1)
            found = self._masks[key] = self._as_bias(later, group, dtype)
        return found[:, found.shape[1] - keys :]

    def _other_branches(self, bunch: Bunch, block: tuple[int, int, int, int], group: int, dtype: torch.dtype) -> Tensor:
        """The bias of a block that lies in branches: what comes later, and what lies in another branch.

        Of a long sequence only what is hidden is kept, a byte a score of one head: its bias is made anew.
        """
        place = (bunch.start, block[0])
        hidden = self._masks.get(place)
        if hidden is None:
            hidden = self._masks[place] = self._hidden_of_branches(bunch, block)
        if not bunch.short:
            return self._as_bias(hidden, group, dtype)
        key = (dtype, group, *place)
        found = self._masks.get(key)
        if found is None:
            found = self._masks[key] = self._as_bias(hidden, group, dtype)
        return found

    def _hidden_of_branches(self, bunch: Bunch, block: tuple[int, int, int, int]) -> Tensor:
        """[queries, keys] bool, True where a query of the block must not see a key."""
        low, high, left, right = block
        lengths = torch.tensor(bunch.branches)
        numbers = torch.arange(len(lengths)).repeat_interleave(lengths)
        filling = numbers.new_full((bunch.length - bunch.lengths[0],), len(lengths))
        branch = torch.cat([numbers.new_full((bunch.shared,), -1), numbers, filling])
        place = torch.arange(bunch.length)
        begins = torch.tensor([*accumulate(bunch.branches, initial=0)])
        # Where a token stands in its own branch's text; what fills is told by nobody.
        stands = torch.where(branch < 0, place, place - begins[branch.clamp(min=0)])
        of, to = slice(low, high), slice(left, right)
        hidden = place[of, None] < place[None, to]
        hidden |= (branch[None, to] >= 0) & (branch[None, to] != branch[of, None])
        if self.window is not None:
            hidden |= stands[of, None] - stands[None, to] >= self.window
        return hidden.to(self.device)

    def _as_bias(self, hidden: Tensor, group: int, dtype: torch.dtype) -> Tensor:
        """[group * queries, keys] of hidden [queries, keys]: -inf where it is True."""
        shown = torch.zeros(hidden.shape, dtype=dtype, device=self.device)
        return shown.masked_fill_(hidden, float("-inf")).repeat(group, 1)

    def _filling(self, bunch: Bunch, left: int, right: int, heads: int, dtype: torch.dtype) -> Tensor:
        """[B * heads, 1, right - left]: -inf at the keys [left, right) that only fill."""
        lengths = torch.tensor(bunch.lengths, device=self.device)
        places = torch.arange(left, right, device=self.device)
        filling = torch.zeros(len(lengths), 1, right - left, dtype=dtype, device=self.device)
        filling.masked_fill_((places >= lengths[:, None])[:, None], float("-inf"))
        return filling.repeat_interleave(heads, 0)

    def _hidden(self, block: tuple[int, int, int, int]) -> Tensor | None:
        """[queries, keys] bool, True where a window hides a key from a query; None where all are seen."""
        low, high, left, right = block
        reach = self.window
        if reach is None or (not self.causal and max(high - left, right - low) <= reach):
            return None
        distance = torch.arange(low, high, device=self.device)[:, None] - torch.arange(left, right, device=self.device)
        return (distance < 0) | (distance >= reach) if self.causal else distance.abs() >= reach

    def _gathers(self, heads: int) -> _Heads:
        if heads not in self._heads:
            self._heads[heads] = self._make_gathers(heads)
        return self._heads[heads]

    def _make_gathers(self, heads: int) -> _Heads:
        into, filling = [], []
        back = torch.empty(self.tokens, heads, dtype=torch.long)
        head = torch.arange(heads)
        for bunch in self.bunches:
            firsts, lengths = torch.tensor(bunch.firsts), torch.tensor(bunch.lengths)
            places = torch.arange(bunch.length)
            tokens = firsts[:, None] + torch.minimum(places, lengths[:, None] - 1)
            into.append((tokens[:, None] * heads + head[:, None]).flatten())
            rows = torch.arange(len(firsts) * heads * bunch.length) + bunch.start * heads
            rows = rows.view(len(firsts), heads, bunch.length)
            real = (places < lengths[:, None])[:, None].expand_as(rows)
            at = tokens[:, None].expand_as(rows)
            back[at[real], head[:, None].expand_as(rows)[real]] = rows[real]
            filling.append(rows[~real])
        fills = torch.cat(filling) if filling else torch.empty(0, dtype=torch.long)
        return _Heads(
            torch.cat(into).to(self.device) if into else fills.to(self.device),
            back.flatten().to(self.device),
            fills.to(self.device) if len(fills) else None,
        )


@lru_cache(maxsize=4)  # a pack with and without a window, and the one before it
def plan_of(
    bounds: tuple[int, ...],
    causal: bool,
    window: int | None,
    device: torch.device,
    branches: tuple[tuple[int, ...], ...] = (),
) -> Plan:
    """The plan of the pack whose sequences lie between `bounds` (0 to T); the last few are kept.

    branches: of each sequence the lengths of the branches that end it, () for none; only where it is causal.
    """
    assert causal or not any(branches), "branches see what is before them"
    by_length: dict[int, list[tuple[int, int]]] = {}
    bunches: list[Bunch] = []
    start = 0
    for number, (first, end) in enumerate(pairwise(bounds)):
        if branches and branches[number]:
            room = _room(end - first, window)
            bunches.append(Bunch(start, room, (first,), (end - first,), branches[number]))
            start += room
        elif end > first:
            by_length.setdefault(_room(end - first, window), []).append((first, end - first))
    for room, found in by_length.items():
        # Long sequences gain nothing from company, and their score matrices would all be alive at once.
        together = max(1, _SCORES // room**2) if room <= BLOCK else 1
        for low in range(0, len(found), together):
            firsts, lengths = zip(*found[low : low + together], strict=True)
            bunches.append(Bunch(start, room, firsts, lengths))
            start += room * len(firsts)
    return Plan(tuple(bunches), bounds[-1], causal, window, device)


def cost_of(lengths: Sequence[int], alone: bool = False) -> int:
    """What causal sequences of these lengths cost, in scores of a head: those computed, and moving their tokens.

    alone: no other sequence is computed with them.
    """
    found = _ALONE * len(lengths) if alone else 0
    for length in lengths:
        room = _room(length, None)
        whole, left = divmod(room, BLOCK)
        found += whole * (whole + 1) // 2 * BLOCK**2 + left * room + _MOVED * room
    return found


def _room(length: int, window: int | None) -> int:
    """The length that a short sequence is computed at: few different ones make few products."""
    step = 8 if length <= 64 else 32  # whole vectors, for which torch's softmax of bfloat16 is fast
    # A window narrower than the filling could leave a place that fills without a key to see, and softmax without sense.
    if length > BLOCK or (window is not None and window <= 32):
        return length
    return -(-length // step) * step
