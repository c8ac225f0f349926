"""Finds labels that are probably wrong, from probabilities that a row's own label had no part in.

The rows' vectors are cut into folds; a softmax regression trained on the others gives each row's probabilities. To
these a model of how labels go wrong is fitted, after confident learning: how often each class is labeled as each
other. A row whose label is then probably wrong is noted, with the class that it looks like; `action` has it dropped,
or relabeled where that class is more probable than its label. A classifier that is often unsure gives few such rows: a
smaller `least` finds more, and takes more good ones. Classes of fewer than ten rows are found more often than they are
wrong: look at what is noted before it is dropped (`luthier data review FILE --ledger LEDGER`). Facts: how many, of
which labels, taken for which.
Errors: DataError where no row has a class, or there are fewer than two; as load_embedder.
Source: Northcutt et al. 2021 (arXiv:1911.00068); Dawid and Skene 1979.
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
from ...functional.label_noise import label_errors, out_of_sample, stratified_folds, true_chances
from ..strata import Strata, drawn
from ..vectors import vectors_of

__all__ = ["LabelErrors"]


class LabelErrors(Step):
    """Notes, drops or relabels rows whose class is probably wrong; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"action": "drop", "encoder": None, "folds": 3}

    action: Literal["note", "drop", "relabel"] = Field("note", description="what happens to such rows")
    least: float = Field(0.5, gt=0, lt=1, description="smallest probability with which a found label is wrong")
    encoder: str | None = Field(
        "embedded:minilm", description="a model for the vectors; null: counts of hashed words, which find less"
    )
    folds: int = Field(5, ge=2, description="parts of the data; each is judged by a classifier of the others")
    epochs: int = Field(20, ge=1, description="epochs of each classifier")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        judged = [example for example in rows if example.target is not None] or rows
        classes = Strata.of(judged, ("label",), "data.steps.label_errors")
        labels = classes.of_row.astype(np.int64)
        if len(classes.names) < 2:
            raise DataError(
                f"all rows have the class '{classes.names[0]}'",
                where="data.steps.label_errors",
                expected="two classes or more",
            )
        folds = stratified_folds(labels, [drawn(context.seed, example.id) for example in judged], self.folds)
        vectors = vectors_of(judged, len(judged), self.encoder)
        true = true_chances(labels, out_of_sample(vectors, labels, folds, epochs=self.epochs, seed=context.seed))
        wrong, likely = label_errors(labels, true, self.least)
        targets = dict(zip(labels.tolist(), (example.target for example in judged), strict=True))
        confused: Counter[str] = Counter()
        number = -1
        for example in rows:
            number += example.target is not None
            if example.target is None or not wrong[number]:
                yield example
                continue
            given, other = classes.names[labels[number]], classes.names[likely[number]]
            confused[f"{given} for {other}"] += 1
            mine, others = true[number, labels[number]], true[number, likely[number]]
            reason = f"label probably wrong: looks like {other}, {others:.2f} against {mine:.2f}"
            better = targets[int(likely[number])] if others > mine else None
            yield from self._told(example, reason, better, context)
        context.facts.update(
            rows=len(judged), probably_wrong=int(wrong.sum()), taken_for=dict(confused.most_common(20))
        )

    def _told(self, example: Example, reason: str, better: Any, context: StepContext) -> Iterator[Example]:
        """better: the target to give it; None where no other class is more probable than its label."""
        if self.action == "drop":
            context.ledger.drop(example, reason)
        elif self.action == "relabel" and better is not None:
            origin = replace(example.origin, steps=(*example.origin.steps, self.component_name()))
            after = replace(example, target=better, origin=origin)
            context.ledger.change(example, after, reason)
            yield after
        else:
            context.ledger.note(example, reason)
            yield example
