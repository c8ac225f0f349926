"""Finds labels that are probably wrong: confident learning on probabilities that a row's own label had no part in.

The rows' vectors are cut into folds; a softmax regression trained on the others gives each row's probabilities. Rows
whose label they contradict more surely than the label's other rows do are noted, with the label that is probable; they
are dropped or relabeled where `action` says so. Rare classes are found more often than they are wrong: look at what is
noted before it is dropped (`luthier data review FILE --ledger LEDGER`). Facts: how many, of which labels, taken for
which.
Errors: DataError where no row has a class, or there are fewer than two; as load_embedder.
Source: Northcutt et al. 2021 (arXiv:1911.00068).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.errors import DataError
from ...core.example import Example
from ...functional.confident import label_errors, out_of_sample
from ..strata import Strata, drawn
from ..vectors import vectors_of

__all__ = ["LabelErrors"]


class LabelErrors(Step):
    """Notes, drops or relabels rows whose class is probably wrong; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"action": "drop", "encoder": None, "folds": 3}

    action: Literal["note", "drop", "relabel"] = Field("note", description="what happens to such rows")
    encoder: str | None = Field(
        "embedded:minilm", description="a model for the vectors; null: counts of hashed words, which find less"
    )
    folds: int = Field(5, ge=2, description="parts of the data; each is judged by a classifier of the others")
    epochs: int = Field(20, ge=1, description="epochs of each classifier")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        classes = Strata.of(rows, ("label",), "data.steps.label_errors")
        labels = classes.of_row.astype(np.int64)
        if len(classes.names) < 2:
            raise DataError(
                f"all rows have the class '{classes.names[0]}'",
                where="data.steps.label_errors",
                expected="two classes or more",
            )
        folds = np.array([int(drawn(context.seed, example.id) * self.folds) for example in rows])
        if len(np.unique(folds)) < 2:  # a handful of rows
            folds = np.arange(len(rows)) % self.folds
        vectors = vectors_of(rows, len(rows), self.encoder)
        chances = out_of_sample(vectors, labels, folds, epochs=self.epochs, seed=context.seed)
        wrong, likely = label_errors(labels, chances)
        confused: Counter[str] = Counter()
        for number, example in enumerate(rows):
            if not wrong[number]:
                yield example
                continue
            given, other = classes.names[labels[number]], classes.names[likely[number]]
            confused[f"{given} for {other}"] += 1
            sure = f"{chances[number, likely[number]]:.2f} against {chances[number, labels[number]]:.2f}"
            yield from self._told(example, f"label probably wrong: looks like {other}, {sure}", other, context)
        context.facts.update(rows=len(rows), probably_wrong=int(wrong.sum()), taken_for=dict(confused.most_common(20)))

    def _told(self, example: Example, reason: str, other: str, context: StepContext) -> Iterator[Example]:
        if self.action == "drop":
            context.ledger.drop(example, reason)
        elif self.action == "relabel":
            origin = replace(example.origin, steps=(*example.origin.steps, self.component_name()))
            after = replace(example, target=other, origin=origin)
            context.ledger.change(example, after, reason)
            yield after
        else:
            context.ledger.note(example, reason)
            yield example
