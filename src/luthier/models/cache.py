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
_ALIKE = 0.6
"""How short a text may be beside the longest of its group: waste against calls, measured on 64 mixed prompts."""

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


@dataclass(eq=False)
class _Group:
    """Texts of about one length. Each layer's keys and values are [slots, Hk, places, D]; text i has slot i."""

    texts: list[Text]
    slots: int
    places: int
    layers: list[KeysValues] = field(default_factory=list)
    positions: Tensor = field(default_factory=lambda: torch.empty(0))
    _into: dict[int, Tensor] = field(default_factory=dict)
    _hidden: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: list[Text]) -> _Group:
        return cls(texts, len(texts), _rounded(max(text.length for text in texts) + 1))

    def begin(self, positions: Tensor) -> None:
        """Readies the group for a step whose tokens stand at `positions`, one a text."""
        self.positions = positions
        self._into.clear()
        self._hidden.clear()
        longest = max(text.length for text in self.texts) + 1
        if longest > self.places:
            self.places = _rounded(longest + longest // 8)
            self.layers = [(_grown(keys, self.places), _grown(values, self.places)) for keys, values in self.layers]

    def keep(self, layer: int, key: Tensor, value: Tensor) -> KeysValues:
        """Writes the step's keys and values [texts, Hk, D]; gives all kept ones as views [texts * Hk, places, D]."""
        heads = key.shape[1]
        if heads not in self._into:
            rows = torch.arange(len(key) * heads, device=key.device) * self.places
            self._into[heads] = rows + self.positions.repeat_interleave(heads)
        keys, values = self.layers[layer]
        for kept, new in ((keys, key), (values, value)):
            kept.view(-1, kept.shape[-1]).index_copy_(0, self._into[heads], new.reshape(-1, new.shape[-1]))
        return keys[: len(key)].flatten(0, 1), values[: len(key)].flatten(0, 1)

    def hidden(self, heads: int, window: int | None) -> Tensor:
        """What the step's tokens must not see (functional.cached_attention.hidden_places)."""
        if (heads, window) not in self._hidden:
            self._hidden[heads, window] = hidden_places(self.positions, self.places, heads, window)
        return self._hidden[heads, window]

    def drop(self, slot: int) -> None:
        """The text at `slot` leaves; the last one takes its place."""
        last = self.texts.pop()
        if slot == len(self.texts):
            return
        self.texts[slot] = last
        for keys, values in self.layers:
            keys[slot], values[slot] = keys[len(self.texts)], values[len(self.texts)]


def _rounded(places: int) -> int:
    return -(-places // _ROOM) * _ROOM


def _grown(kept: Tensor, places: int) -> Tensor:
    """The same with more places, zero where nothing is: what is hidden must still be a number."""
    found = kept.new_zeros(*kept.shape[:2], places, kept.shape[3])
    found[:, :, : kept.shape[2]] = kept
    return found


class Cache:
    """The running texts of one device; `texts` are in the order of a step's rows."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.groups: list[_Group] = []

    @property
    def texts(self) -> list[Text]:
        """The running texts."""
        return [text for group in self.groups for text in group.texts]

    def arrange(self, new: Sequence[Text]) -> None:
        """Groups the running texts and the new ones anew by length; the new ones' slots wait for `fill`."""
        places = {text: (group, slot) for group in self.groups for slot, text in enumerate(group.texts)}
        shapes = self.groups[0].layers if self.groups else []
        order = sorted([*places, *new], key=lambda text: (-text.length, text.item))
        self.groups = [_Group.of(texts) for texts in _alike(order)]
        for group in self.groups:
            group.layers = [(_room(group, keys), _room(group, values)) for keys, values in shapes]
            for slot, text in enumerate(group.texts):
                if text not in places:
                    continue
                old, at = places[text]
                for target, source in zip(group.layers, old.layers, strict=True):
                    for into, kept in zip(target, source, strict=True):
                        into[slot, :, : text.length] = kept[at, :, : text.length]

    def fill(self, kept: Sequence[KeysValues], sources: Mapping[Text, Tensor]) -> None:
        """Takes the keys and values of some new texts out of a prefill; sources: where each one's tokens lie in it."""
        for group in self.groups:
            if not group.layers:
                group.layers = [(_room(group, key), _room(group, value)) for key, value in kept]
            chosen = [(slot, sources[text]) for slot, text in enumerate(group.texts) if text in sources]
            if not chosen:
                continue
            source = torch.cat([at for _, at in chosen])
            slots = torch.cat([torch.full_like(at, slot) for slot, at in chosen])
            place = torch.cat([torch.arange(len(at), device=self.device) for _, at in chosen])
            for pair, found in zip(group.layers, kept, strict=True):
                for into, new in zip(pair, found, strict=True):
                    into.transpose(1, 2).index_put_((slots, place), new.index_select(0, source))

    def begin(self) -> tuple[Tensor, Tensor]:
        """Readies a step: the texts' next tokens and their positions, both [B]."""
        texts = self.texts
        tokens = torch.tensor([text.token for text in texts], device=self.device)
        positions = torch.tensor([text.length for text in texts], device=self.device)
        for group, own in zip(
            self.groups, torch.split(positions, [len(group.texts) for group in self.groups]), strict=True
        ):
            group.begin(own)
        return tokens, positions

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
        query, key = query.to(value.dtype), key.to(value.dtype)
        found = []
        first = 0
        for group in self.groups:
            rows = slice(first, first + len(group.texts))
            first = rows.stop
            keys, values = group.keep(layer, key[rows], value[rows])
            hidden = group.hidden(key.shape[1], window)
            found.append(
                cached_attention(query[rows], keys, values, hidden, scaling=scaling, softcap=softcap, sinks=sinks)
            )
        return found[0] if len(found) == 1 else torch.cat(found)

    def drop(self, texts: Collection[Text]) -> None:
        """These texts leave at once."""
        for group in self.groups:
            for slot in reversed(range(len(group.texts))):
                if group.texts[slot] in texts:
                    group.drop(slot)
        self.groups = [group for group in self.groups if group.texts]


def _room(group: _Group, like: Tensor) -> Tensor:
    """Zeros for a group's keys or values, of the kind of [..., Hk, D] or [slots, Hk, places, D]."""
    heads = like.shape[1]
    return like.new_zeros(group.slots, heads, group.places, like.shape[-1])


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
