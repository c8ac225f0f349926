"""Keys and values of running texts, and the two ways attention uses them while a text is generated.

Prefill reads prompts packed, without padding; what prompts share may have been read before. Cache holds the running
texts in groups of about one length, so that a step computes hardly more than what it sees: each group is one tensor a
layer with room to grow, read whole by one batched product. A text that ended gives its slot to the group's last.

Shapes: T tokens, Hk key heads, D wide (values may have another width).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..functional.attention import packed_attention
from ..functional.cached_attention import cached_attention, hidden_places

__all__ = ["Cache", "Prefill", "Text"]

_ROOM = 16
"""Places come in multiples of this."""
_ALIKE = 0.75
"""How short a text may be beside the longest of its group (and _ROOM less): waste against calls."""

KeysValues = tuple[Tensor, Tensor]


class Prefill:
    """One packed pass over prompts; `kept` holds each layer's keys and values [T, Hk, D] of known and new tokens.

    starts: boundaries of whole prompts. Where parts of them are known from a pass before, `before` has each layer's
    keys and values, `place` [sum of prompts] says where each prompt's tokens lie in known + new, and `own` which of
    them are the new ones, in the order in which the model is given them.
    """

    def __init__(
        self,
        starts: Tensor,
        before: Sequence[KeysValues] = (),
        place: Tensor | None = None,
        own: Tensor | None = None,
    ) -> None:
        self.starts, self.before, self.place, self.own = starts, before, place, own
        self.kept: list[KeysValues] = []

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        causal: bool,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """[T, Hq, Dv] of the new tokens."""
        if self.place is None or self.own is None:
            self.kept.append((key, value))
            return packed_attention(
                query, key, value, self.starts,
                scaling=scaling, causal=causal, window=window, softcap=softcap, sinks=sinks,
            )  # fmt: skip
        key, value = (torch.cat(pair) for pair in zip(self.before[layer], (key, value), strict=True))
        self.kept.append((key, value))
        # What is known asks nothing: its queries are zeros, and what comes of them is left behind.
        whole = query.new_zeros(len(self.place), *query.shape[1:]).index_copy_(0, self.own, query)
        found = packed_attention(
            whole, key.index_select(0, self.place), value.index_select(0, self.place), self.starts,
            scaling=scaling, causal=causal, window=window, softcap=softcap, sinks=sinks,
        )  # fmt: skip
        return found.index_select(0, self.own)


@dataclass(eq=False)
class Text:
    """A running text: `length` tokens are kept, `token` is the next one to be read."""

    item: int
    length: int
    token: int = -1


@dataclass
class _Group:
    """Texts of about one length; text i has the i-th block of `places` a head, counted from `start` on."""

    texts: list[Text]
    places: int
    start: int

    def block(self, slot: int) -> int:
        """Where the block of a slot begins, in rows a head."""
        return self.start + slot * self.places


@dataclass
class _Step:
    """What the layers of one step share, by number of heads (and window): made by the first that asks."""

    positions: Tensor
    into: dict[int, Tensor] = field(default_factory=dict)
    hidden: dict[tuple[int, int | None], list[Tensor]] = field(default_factory=dict)


class Cache:
    """The running texts on one device, in the order of a step's rows.

    Each layer's keys and values are one tensor of rows [R * Hk, D]: group after group, in it text after text, in it
    head after head, so that a group is a plain view [texts * Hk, places, D].
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._groups: list[_Group] = []
        self._layers: list[KeysValues] = []
        self._heads: list[int] = []
        self._views: list[list[KeysValues]] = []
        self._now = _Step(torch.empty(0))

    @property
    def texts(self) -> list[Text]:
        """The running texts."""
        return [text for group in self._groups for text in group.texts]

    def arrange(self, new: Sequence[Text] = ()) -> None:
        """Groups the running texts and the new ones anew by length; the new ones' blocks wait for `fill`."""
        running = self.texts
        before = {heads: self._rows(running, heads) for heads in set(self._heads)}
        self._groups = []
        start = 0
        for alike in _alike(sorted([*running, *new], key=lambda text: (-text.length, text.item))):
            longest = alike[0].length + 1
            self._groups.append(_Group(alike, _rounded(longest + _ROOM), start))
            start = self._groups[-1].block(len(alike))
        self._views = []
        into = {heads: self._rows(running, heads) for heads in before}
        # Layer by layer, each dropped when it is copied: never is there more than one of them twice.
        for at, heads in enumerate(self._heads):
            layer = self._layers[at]  # zip would hold the one before, too
            self._layers[at] = self._empty(heads, *layer)
            _copy(layer, self._layers[at], before[heads], into[heads])

    def fill(self, kept: Sequence[KeysValues], sources: Mapping[Text, Tensor]) -> None:
        """Takes the keys and values of new texts out of a prefill; sources: where each one's tokens lie in it."""
        if not self._layers:
            self._heads = [keys.shape[1] for keys, _ in kept]
            self._layers = [self._empty(keys.shape[1], keys, values) for keys, values in kept]
        head = {heads: torch.arange(heads, device=self.device)[:, None] for heads in set(self._heads)}
        rows = {n: torch.cat([(at * n + head[n]).flatten() for at in sources.values()]) for n in head}
        into = {n: self._rows(sources, n) for n in head}
        for heads, (keys, values), layer in zip(self._heads, kept, self._layers, strict=True):
            _copy((keys.flatten(0, 1), values.flatten(0, 1)), layer, rows[heads], into[heads])

    def begin(self) -> tuple[Tensor, Tensor]:
        """Readies a step: the texts' next tokens and their positions, both [B]."""
        if any(text.length >= group.places for group in self._groups for text in group.texts):
            self.arrange()
        if not self._views:
            self._views = [self._viewed(*layer) for layer in zip(self._heads, self._layers, strict=True)]
        texts = self.texts
        tokens = torch.tensor([text.token for text in texts], device=self.device)
        self._now = _Step(torch.tensor([text.length for text in texts], device=self.device))
        return tokens, self._now.positions

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        causal: bool,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """[B, Hq, Dv]: each text's new token attends to all that is kept of it, and is kept."""
        heads = key.shape[1]
        into = self._into(heads)
        for kept, new in zip(self._layers[layer], (key, value), strict=True):
            kept.index_copy_(0, into, new.reshape(-1, new.shape[-1]).to(kept.dtype))
        folded = query.reshape(len(query) * heads, -1, query.shape[-1]).to(value.dtype)
        parts = torch.split(folded, [len(group.texts) * heads for group in self._groups])
        found = [
            cached_attention(part, *kept, hidden, scaling=scaling, softcap=softcap, sinks=sinks)
            for part, kept, hidden in zip(parts, self._views[layer], self._hidden(heads, window), strict=True)
        ]
        return torch.cat(found).view(len(query), query.shape[1], -1)

    def drop(self, texts: Collection[Text]) -> None:
        """These texts leave at once; the last of a group takes the place of one that left."""
        for group in self._groups:
            for slot in reversed(range(len(group.texts))):
                if group.texts[slot] in texts:
                    self._close(group, slot)
        self._groups = [group for group in self._groups if group.texts]
        self._views = []

    def _close(self, group: _Group, slot: int) -> None:
        last = group.texts.pop()
        if slot == len(group.texts):
            return
        group.texts[slot] = last
        for heads, layer in zip(self._heads, self._layers, strict=True):
            into, of, size = group.block(slot) * heads, group.block(len(group.texts)) * heads, group.places * heads
            for kept in layer:
                kept[into : into + size] = kept[of : of + size]

    def _empty(self, heads: int, keys: Tensor, values: Tensor) -> KeysValues:
        """A layer for all groups, of zeros: what is hidden must still be a number."""
        last = self._groups[-1]
        rows = last.block(len(last.texts)) * heads
        return keys.new_zeros(rows, keys.shape[-1]), values.new_zeros(rows, values.shape[-1])

    def _viewed(self, heads: int, layer: KeysValues) -> list[KeysValues]:
        """Each group's keys and values [texts * Hk, places, D]."""
        found = []
        for group in self._groups:
            rows = slice(group.start * heads, group.block(len(group.texts)) * heads)
            keys, values = (kept[rows].view(-1, group.places, kept.shape[-1]) for kept in layer)
            found.append((keys, values))
        return found

    def _rows(self, texts: Collection[Text], heads: int) -> Tensor:
        """The rows of some texts in a layer: text after text, in it head after head."""
        found = {
            text: torch.arange(heads)[:, None] * group.places + torch.arange(text.length) + group.block(slot) * heads
            for group in self._groups
            for slot, text in enumerate(group.texts)
        }
        rows = [found[text].flatten() for text in texts]
        return (torch.cat(rows) if rows else torch.empty(0, dtype=torch.long)).to(self.device)

    def _into(self, heads: int) -> Tensor:
        """[B * heads]: the rows that a step's keys and values are written to."""
        if heads not in self._now.into:
            blocks = [group.block(slot) for group in self._groups for slot in range(len(group.texts))]
            places = [group.places for group in self._groups for _ in group.texts]
            first = torch.tensor(blocks, device=self.device)[:, None] * heads + self._now.positions[:, None]
            head = torch.arange(heads, device=self.device) * torch.tensor(places, device=self.device)[:, None]
            self._now.into[heads] = (first + head).flatten()
        return self._now.into[heads]

    def _hidden(self, heads: int, window: int | None) -> list[Tensor]:
        """For each group what a step's tokens must not see (functional.cached_attention.hidden_places)."""
        if (heads, window) not in self._now.hidden:
            positions = torch.split(self._now.positions, [len(group.texts) for group in self._groups])
            self._now.hidden[heads, window] = [
                hidden_places(own, group.places, heads, window)
                for own, group in zip(positions, self._groups, strict=True)
            ]
        return self._now.hidden[heads, window]


def _copy(source: KeysValues, layer: KeysValues, rows: Tensor, into: Tensor) -> None:
    """Rows of a layer's keys and values to where they belong."""
    for kept, new in zip(layer, source, strict=True):
        kept.index_copy_(0, into, new.index_select(0, rows))


def _rounded(places: int) -> int:
    return -(-places // _ROOM) * _ROOM


def _alike(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Runs of texts, longest first, none much shorter than its run's longest."""
    run: list[Text] = []
    for text in texts:
        if run and text.length < _ALIKE * run[0].length - _ROOM:
            yield run
            run = []
        run.append(text)
    if run:
        yield run
