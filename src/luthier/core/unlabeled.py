"""What objectives share that learn classes from rows of which only some have one.

A row without a target is unlabeled. Of its variants, which data steps make (`token_edits`, `paraphrase`, ...), each is
another view of it: a row that branches into the text as it is and the variant, so that the two never part. Rows without
variants have one view, which dropout alone makes two. Nothing here imports torch at run time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from .component import build
from .contracts import Batch, Encoder, Objective, Row, Task
from .errors import DataError
from .example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Unlabeled", "balanced", "is_labeled", "paired"]


class Unlabeled(Objective):
    """The loss is the labeled rows' cross-entropy + weight x what the unlabeled rows add, each a mean over its own rows
    of the step.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    task: ClassVar[Task] = "sequence_classification"

    weight: float = Field(1.0, gt=0, description="of the unlabeled rows' part of the loss")
    unlabeled: float = Field(
        7.0,
        gt=0,
        description="at most so many unlabeled rows beside each labeled one, on average: labeled rows are repeated",
    )

    def _plain(self) -> Objective:
        found = build("objectives", {"classify": {"unlabeled": "leave_out"}})
        assert isinstance(found, Objective)
        return found

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Of the labeled rows, as classify. Errors: DataError for several classes a row, or where no row lacks one."""
        labeled = [example for example in examples if example.target is not None]
        facts = self._plain().survey(labeled)
        if facts["multi_label"]:
            raise DataError(
                f"the rows have several classes each, and {self.component_name()} learns one",
                where=str(labeled[0].origin),
                expected="one class a row",
                remedy="take the objective classify for several classes",
            )
        if len(labeled) == len(examples):
            raise DataError(
                f"all {len(examples)} rows have a class, and nothing is left for {self.component_name()} to add",
                where=str(examples[0].origin),
                expected="rows without a class beside those that have one",
                remedy="add a file of texts to data.train; where labels are missing in a file, read it with format: "
                "{labeled: {unlabeled: true}}; or take the objective classify",
            )
        return facts

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        self._plain().require(held_out, facts)

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        """The text as the only branch of a row; `family` is that of the row that it is a variant of."""
        rows = (
            encoder.sequence(example, label=np.asarray(-1, dtype=np.int64))
            if example.target is None
            else self._plain().encode(example, encoder)
        )
        variant = example.origin.synthetic and bool(example.origin.parents)
        family = _name(example.origin.parents[0] if variant else example.id)
        more = {"family": np.asarray(family, dtype=np.int64), "variant": np.asarray(variant)}
        return [replace(row, fields={**row.fields, **more}, branches=(len(row.ids),)) for row in rows]

    def complete(self, rows: Sequence[Row], seed: int) -> list[Row]:
        """Unlabeled rows with their variants, and labeled ones as often as they are to come."""
        found = paired(rows)
        return balanced(found, [is_labeled(row) for row in found], self.unlabeled)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        labeled = batch.fields["label"] >= 0
        return {"cross_entropy": batch.weights * labeled, "consistency": batch.weights * ~labeled}


def is_labeled(row: Row) -> bool:
    """Whether an encoded row has a class of its own."""
    return int(row.fields["label"]) >= 0


def paired(rows: Sequence[Row]) -> list[Row]:
    """Each unlabeled row once for each of its variants, a branch beside it, and as seldom as there are many: all of
    them together come as often as the row would. Labeled rows, variants too, stay as they are.

    A variant whose row is no longer there stands for it.
    """
    views: dict[int, list[Row]] = {}
    for row in rows:
        if not is_labeled(row):
            views.setdefault(int(row.fields["family"]), []).append(row)
    for family in views.values():
        family.sort(key=lambda row: bool(row.fields["variant"]))  # the row itself comes first
    found: list[Row] = []
    for row in rows:
        family = [row] if is_labeled(row) else views.pop(int(row.fields["family"]), [])
        variants = family[1:] if len(family) > 1 else family
        found += [_beside(family[0], one, number, len(variants)) for number, one in enumerate(variants, 1)]
    return found


def _beside(row: Row, variant: Row, number: int, count: int) -> Row:
    fields = {name: row.fields[name] for name in ("label", "family")}
    if variant is row:
        return replace(row, fields=fields)
    return replace(
        row,
        id=row.id if number == 1 else f"{row.id}#{number}",
        ids=np.concatenate([row.ids, variant.ids]),
        supervised=np.concatenate([row.supervised, variant.supervised]),
        branches=(len(row.ids), len(variant.ids)),
        repeat=row.repeat / count,
        fields=fields,
    )


def balanced(rows: Sequence[Row], labeled: Sequence[bool], most: float) -> list[Row]:
    """The rows, labeled ones repeated until there are at most `most` others beside each, on average."""
    known, others = (
        sum(row.repeat for row, own in zip(rows, labeled, strict=True) if own is side) for side in (True, False)
    )
    times = max(1.0, others / (most * known)) if known else 1.0
    return [replace(row, repeat=row.repeat * times) if own else row for row, own in zip(rows, labeled, strict=True)]


def _name(text: str) -> int:
    """An id as a number of 63 bits."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1
