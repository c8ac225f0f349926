"""Vectors of texts: those that belong together come near each other, all others of the step move apart.

    against: step       -log softmax_j(scale cos(a_i, p_j)) at j = i, over positives and negatives of the step's rows
    against: negative   max(0, cos(a_i, n_i) - cos(a_i, p_i) + margin)

Rows are pairs (a with b, and a negative where there is one), texts with a class (each with others of its class), or
texts alone (each with itself under another dropout: SimCSE). Texts that are known to belong together, by content,
class or a row of the step, are never negatives of each other. A loss is in nats, a mean over rows. Where a step does
not fit into memory at once, vectors are computed first and again, with the same dropout, when their gradients are
known: the number of negatives is that of the step. Source: van den Oord et al. 2018 (arXiv:1807.03748); Gao, Zhang et
al. 2021 (arXiv:2101.06983) for the two passes; Gao, Yao et al. 2021 (arXiv:2104.08821) for texts alone; Schroff et al.
2015 (arXiv:1503.03832) for triplets. Errors: DataError for rows of several kinds, for pairs with a class or a number,
and for texts with a number or a list of classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..core.contracts import Batch, Encoder, Ints, Models, Objective, Row, Task, Term
from ..core.errors import DataError
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Contrast"]

_MOST = 3
"""Texts of a row: an anchor, its positive, a negative."""


class Contrast(Objective):
    """Trains an encoder of texts; the result opens in sentence-transformers, pooled as the model that it came from.
    Reported: how often the positive comes first (accuracy).
    """

    example: ClassVar[dict[str, Any]] = {"scale": 10.0, "symmetric": True, "partners": 2}
    needs: ClassVar[frozenset[str]] = frozenset({"a", "text"})
    task: ClassVar[Task] = "features"
    coupled: ClassVar[bool] = True
    against: Literal["step", "negative"] = Field(
        "step", description="what a positive is held against: all texts of the step, or the row's own negative"
    )
    scale: float = Field(20.0, gt=0, description="of cosines, the inverse of a temperature")
    symmetric: bool = Field(False, description="anchors are looked for from positives, too")
    margin: float = Field(0.2, gt=0, le=2, description="of triplets: by how much the negative's cosine is to be less")
    partners: int = Field(1, ge=1, description="of texts with a class: with how many of its class each one comes")

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """kind of the rows: pairs, classes or texts."""
        kinds: dict[str, Example] = {}
        for example in examples:
            kinds.setdefault(_kind(example), example)
        if len(kinds) > 1:
            first, second = sorted(kinds)[:2]
            raise DataError(
                f"some rows are {first} and some {second}",
                where=str(kinds[second].origin),
                expected="rows of one kind in a phase",
                remedy="train on each kind in a phase of its own",
            )
        return {"kind": next(iter(kinds), "")}

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        kind = _kind(example)
        if kind != encoder.facts["kind"]:
            raise DataError(
                f"the row '{example.id}' is one of {kind}",
                where=str(example.origin),
                expected=f"{encoder.facts['kind']}, as the training rows are",
                remedy="leave it out, or bring it into their form",
            )
        if self.against == "negative" and "negative" not in example.parts:
            raise DataError(
                f"the row '{example.id}' has no negative",
                where=str(example.origin),
                expected="an anchor, a positive and a negative in every row, for against: negative",
                remedy="take against: step, which finds its negatives in the step",
            )
        names = [name for name in ("a", "b", "negative") if name in example.parts] or ["text"]
        found = [encoder.sequence(replace(example, parts={"text": example.parts[name]})) for name in names]
        if not all(found):
            return []  # the encoder has written down why
        texts = [rows[0].ids for rows in found] * (2 if kind == "texts" else 1)
        same = [_name(str(example.target))] if kind == "classes" else [_name(ids.tobytes()) for ids in texts]
        return [_joined(found[0][0], texts, same)]

    def complete(self, rows: Sequence[Row], seed: int) -> list[Row]:
        """Texts with a class, each with `partners` others of its class; one that is alone in it with itself."""
        if any(len(row.branches) != 1 for row in rows):
            return list(rows)
        of_class: dict[int, list[int]] = {}
        for index in np.argsort(np.random.PCG64(seed).random_raw(len(rows)), kind="stable").tolist():
            of_class.setdefault(int(rows[index].fields["same"][0]), []).append(index)
        found: dict[int, list[Row]] = {}
        for members in of_class.values():
            for place, index in enumerate(members):
                steps = range(1, min(self.partners, max(1, len(members) - 1)) + 1)
                others = [rows[members[(place + step) % len(members)]] for step in steps]
                found[index] = [_paired(rows[index], other, number) for number, other in enumerate(others, 1)]
        return [row for index in range(len(rows)) for row in found[index]]

    def collect(self, models: Models, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Of several micro-batches: each row's loss, and the gradient of the step's sum at its vectors, `at` [S, K, H];
        `seed`, by which its dropout is drawn again.
        """
        if len(batches) < 2:
            return batches
        import torch

        seeds = [int(torch.randint(2**62, ())) for _ in batches]
        grids = []
        for batch, seed in zip(batches, seeds, strict=True):
            with _drawn_from(seed, batch.ids.device):
                grids.append(_grid(models, batch))
        vectors = torch.cat([grid for grid, _ in grids])
        there = torch.cat([there for _, there in grids])
        same, weights = (torch.cat([get(batch) for batch in batches]) for get in (_same, lambda batch: batch.weights))
        with torch.enable_grad():
            leaf = vectors.detach().requires_grad_()
            losses, right = self._losses(leaf, there, same, weights)
            (slope,) = torch.autograd.grad((losses * weights).sum(), leaf)
        cuts = [batch.size for batch in batches]
        parts = (torch.split(whole, cuts) for whole in (losses.detach(), right, slope))
        told = zip(batches, seeds, *parts, strict=True)
        return [
            batch.with_fields(loss=loss, right=first, at=at, seed=torch.full((batch.size,), seed))
            for batch, seed, loss, first, at in told
        ]

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"contrast": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        import torch

        fields = batch.fields
        if "at" not in fields:
            vectors, there = _grid(models, batch)
            losses, right = self._losses(vectors, there, _same(batch), batch.weights)
            totals = losses * batch.weights
        else:
            totals, right = fields["loss"] * batch.weights, fields["right"]
            if torch.is_grad_enabled():
                with _drawn_from(int(fields["seed"][0]), batch.ids.device):
                    vectors, _ = _grid(models, batch)
                # The value is that of the whole step; the gradient goes through this micro-batch's vectors.
                slope = (vectors * fields["at"]).sum((1, 2))
                totals = totals + (slope - slope.detach())
        return [Term("contrast", totals, figures={"accuracy": right * batch.weights})]

    def _losses(self, vectors: Tensor, there: Tensor, same: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """[N] losses of the rows of a step, and whether each positive comes first."""
        from ..functional.contrast import ranking_losses, triplet_losses

        if self.against == "negative":
            return triplet_losses(vectors, self.margin)
        # A row that counts nothing is nobody's negative.
        return ranking_losses(vectors, there, same, weights > 0, scale=self.scale, symmetric=self.symmetric)


def _kind(example: Example) -> str:
    if "a" not in example.parts:
        if isinstance(example.target, (float, tuple)):
            has = "a number" if isinstance(example.target, float) else "a list of classes"
            raise DataError(
                f"the row '{example.id}' has {has}",
                where=str(example.origin),
                expected="one class, by which texts belong together, or none",
                remedy="leave the column with it out of the file: texts alone are learned from, too",
            )
        return "classes" if isinstance(example.target, str) else "texts"
    if example.target is not None or "b" not in example.parts:
        raise DataError(
            f"the row '{example.id}' says of its pair: '{example.target}'",
            where=str(example.origin),
            expected="pairs that belong together, without a class or a number",
            remedy="keep the pairs that do, and leave the column with the label or the score out of the file",
        )
    return "pairs"


def _name(content: str | bytes) -> int:
    """A text's content, or its class, as a number of 63 bits."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


def _joined(row: Row, texts: Sequence[Ints], same: Sequence[int]) -> Row:
    """The texts as branches of one row that share nothing."""
    names = np.zeros(_MOST, dtype=np.int64)
    names[: len(same)] = same
    ids = np.concatenate(texts)
    return replace(
        row,
        ids=ids,
        supervised=np.zeros(len(ids), dtype=np.bool_),
        fields={"same": names},
        branches=tuple(len(text) for text in texts),
    )


def _paired(row: Row, other: Row, number: int) -> Row:
    """The two texts of a class as a row of their own."""
    joined = _joined(row, [row.ids, other.ids], [int(row.fields["same"][0])] * 2)
    return joined if number == 1 else replace(joined, id=f"{row.id}#{number}")


def _grid(models: Models, batch: Batch) -> tuple[Tensor, Tensor]:
    """[S, 3, H] vectors of a batch's texts (zeros where a row has none), and [S, 3] where there are."""
    import torch

    assert batch.branches is not None
    vectors = models.policy.vectors(batch)
    rows = batch.branches[:, 0]
    firsts = torch.bincount(rows, minlength=batch.size).cumsum(0) - torch.bincount(rows, minlength=batch.size)
    at = rows * _MOST + torch.arange(len(rows), device=rows.device) - firsts.index_select(0, rows)
    grid = vectors.new_zeros(batch.size * _MOST, vectors.shape[-1]).index_copy(0, at, vectors)
    there = torch.zeros(batch.size * _MOST, dtype=torch.bool, device=rows.device).index_fill(0, at, True)
    return grid.view(batch.size, _MOST, -1), there.view(batch.size, _MOST)


def _same(batch: Batch) -> Tensor:
    return batch.fields["same"]


@contextmanager
def _drawn_from(seed: int, device: Any) -> Iterator[None]:
    """Dropout of a forward pass is drawn from `seed`, and what is drawn afterwards does not feel it."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
