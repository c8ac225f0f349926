"""Removes rows that mean the same as another, by the vectors of an encoder; tells of copies across splits.

Rows are alike when each of what is asked, the answer, and the rest of a long prompt has a cosine of at least
`threshold` with the other row's, and when their numbers, classes and tool calls are equal: encoders hardly see that 12
is not 21. Rows are compared within clusters of their vectors (spherical k-means); two alike rows in different clusters
are missed, which `clusters: 1` rules out at quadratic cost. Rows are taken in order, the first of the file first or the
farthest from its centroid first, and each stays unless it is alike to one that stays: so a removed row is alike to the
row that is named. Long texts are read in pieces of 150 words, so that nothing is cut off.

Copies in another split are noted, and taken from train where `across` says so. Put `deduplicate` before: it is faster.
Errors: ModelError for an encoder that cannot be loaded. Source: Abbas et al., SemDeDup, 2023 (arXiv:2303.09540), where
the row farthest from its centroid stays.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ...functional.kmeans import spherical_kmeans, unit
from ..asked import Asked, asked_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.embed import Embedder

__all__ = ["SemanticDeduplicate"]

_ORDER = ("train", "validation", "test")
_PIECE = 150
"""Words that are embedded as one: what encoders of 256 tokens take."""
_PER_CLUSTER = 2048
_BLOCK = 512
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class SemanticDeduplicate(Step):
    """Keeps one row of each group of rows that mean the same; scope corpus."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    example: ClassVar[Mapping[str, Any]] = {"threshold": 0.9, "keep": "farthest"}

    encoder: str = Field("embedded:minilm", description="the model whose vectors are compared: a folder or a name")
    threshold: float = Field(0.95, gt=0, le=1, description="smallest cosine of rows that mean the same")
    keep: Literal["first", "farthest"] = Field(
        "first", description="the row that stays: the first in the file, or the farthest from its cluster's centroid"
    )
    clusters: int | None = Field(None, ge=1, description="default: one for 2,048 rows; 1 compares every pair")
    across: Literal["note", "drop_from_train"] = Field(
        "note", description="what happens to a training row that has a copy in validation or test"
    )

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        from ...models.embed import load_embedder

        embedder = load_embedder(self.encoder)
        own = _Vectors.of(rows, embedder)
        labels, centroids = spherical_kmeans(
            own.whole, self.clusters or math.ceil(len(rows) / _PER_CLUSTER), context.seed
        )
        removed: dict[int, tuple[int, float]] = {}
        for cluster in range(len(centroids)):
            removed |= self._removed(own, np.flatnonzero(labels == cluster), centroids[cluster])
        copies = self._copies(own, [n for n in range(len(rows)) if n not in removed], embedder, context)
        context.facts.update(
            {
                "encoder": self.encoder,
                "clusters": len(centroids),
                "removed": len(removed),
                "with a copy in another split": len(copies),
            }
        )
        for number, example in enumerate(rows):
            if number in removed:
                other, cosine = removed[number]
                context.ledger.drop(example, f"alike in meaning: {cosine:.3f}", of=rows[other].id)
            elif number in copies:
                name, other_id, cosine = copies[number]
                reason = f"alike in meaning in {name}: {cosine:.3f}"
                if self.across == "drop_from_train" and context.split == "train":
                    context.ledger.drop(example, reason, of=other_id)
                    continue
                context.ledger.note(example, reason, of=other_id)
                yield example
            else:
                yield example

    def _removed(self, own: _Vectors, members: Any, centroid: Any) -> dict[int, tuple[int, float]]:
        """Of a cluster the rows that leave, each with the row that stays for it and their cosine."""
        if self.keep == "farthest":
            members = members[np.argsort(own.whole[members] @ centroid, kind="stable")]
        removed: dict[int, tuple[int, float]] = {}
        kept: list[int] = []
        for at in range(0, len(members), _BLOCK):
            block = members[at : at + _BLOCK]
            before = own.alike(own, block, np.array(kept, np.int64))  # [block, kept]
            within = own.alike(own, block, block)
            fresh: list[int] = []  # places in the block that stay
            for place, number in enumerate(block.tolist()):
                near = [(float(before[place].max()), kept[int(before[place].argmax())])] if kept else []
                if fresh:
                    inside = within[place, fresh]
                    near.append((float(inside.max()), int(block[fresh[int(inside.argmax())]])))
                cosine, other = max(near, default=(-1.0, -1), key=lambda one: one[0])
                if cosine >= self.threshold:
                    removed[number] = (other, cosine)
                else:
                    fresh.append(place)
            kept += block[fresh].tolist()
        return removed

    def _copies(
        self, own: _Vectors, kept: Sequence[int], embedder: Embedder, context: StepContext
    ) -> dict[int, tuple[str, str, float]]:
        """For rows that stay: the split, the id and the cosine of the nearest alike row in a later split."""
        later = _ORDER[_ORDER.index(context.split) + 1 :] if context.split in _ORDER else ()
        found: dict[int, tuple[str, str, float]] = {}
        for name in later:
            others = context.others.get(name, ())
            if not others:
                continue
            theirs = _Vectors.of(others, embedder)
            for at in range(0, len(kept), _BLOCK):
                block = np.array(kept[at : at + _BLOCK], np.int64)
                alike = own.alike(theirs, block, np.arange(len(others)))
                best = alike.argmax(axis=1)
                for number, place, cosine in zip(
                    block.tolist(), best.tolist(), alike.max(axis=1).tolist(), strict=True
                ):
                    if cosine >= self.threshold and (number not in found or cosine > found[number][2]):
                        found[number] = (name, others[place].id, cosine)
        return found


@dataclass(frozen=True)
class _Vectors:
    """n rows as they are compared.

    views: [n, H] unit vectors of what is asked, of the answer, of the rest; zero where a row has none. whole: the
    three side by side, of unit length. keys: [n] equal where numbers, classes and calls are.
    """

    views: tuple[NDArray[np.float32], ...]
    whole: NDArray[np.float32]
    keys: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Example], embedder: Embedder) -> _Vectors:
        asked = [asked_of(row) for row in rows]
        views = tuple(
            _embedded(texts, embedder)
            for texts in (
                [one.question for one in asked],
                [one.answer for one in asked],
                [" ".join(one.rest) for one in asked],
            )
        )
        keys = np.array([_key(row, one) for row, one in zip(rows, asked, strict=True)], np.int64)
        return cls(views, unit(np.concatenate(views, axis=1)), keys)

    def alike(self, other: _Vectors, mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.float32]:
        """[m, k] the least cosine of the views; -1 where the keys differ or only one of two rows has a view."""
        found = np.ones((len(mine), len(theirs)), np.float32)
        for own, others in zip(self.views, other.views, strict=True):
            cosine = own[mine] @ others[theirs].T
            here, there = np.any(own[mine], axis=1), np.any(others[theirs], axis=1)
            cosine[np.ix_(~here, ~there)] = 1
            np.minimum(found, cosine, out=found)
        found[self.keys[mine][:, None] != other.keys[theirs][None, :]] = -1
        return found


def _embedded(texts: Sequence[str], embedder: Embedder) -> NDArray[np.float32]:
    """[n, H] unit vectors; of a long text the mean of its pieces'. Equal texts are embedded once."""
    places: dict[str, int] = {}
    owner = [places.setdefault(text, len(places)) for text in texts]
    pieces: list[str] = []
    of: list[int] = []
    for text, number in places.items():
        words = text.split()
        some = (
            [text]
            if len(words) <= _PIECE
            else [" ".join(words[at : at + _PIECE]) for at in range(0, len(words), _PIECE)]
        )
        for piece in some if words else ():
            pieces.append(piece)
            of.append(number)
    sums = np.zeros((len(places), embedder.width), np.float32)
    if pieces:
        np.add.at(sums, of, unit(embedder.embed(pieces)))
    return unit(sums)[owner]


def _key(row: Example, asked: Asked) -> int:
    """Equal for rows that may be alike: the same numbers in the same order, class, and tool calls."""
    messages = row.parts.get("messages", ())
    calls = [dict(turn.extra) for turn in messages if not isinstance(turn, str)]
    target = None if isinstance(row.target, tuple) and calls else row.target
    numbers = [_NUMBER.findall(text) for text in (asked.question, asked.answer, " ".join(asked.rest))]
    return _digest(json.dumps([numbers, target, calls], sort_keys=True, default=str))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "little")
