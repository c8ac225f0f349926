"""Classification with unlabeled rows: those that a teacher is sure of are learned with the class that it names.

    cross-entropy of labeled rows + weight x cross-entropy of pseudo-labeled rows

Each a mean over its own rows, in nats. The teacher, mostly the phase before, is asked once, in eval mode, about the
texts as they are; of each class that it names the surest rows are taken (`share`), where it is sure enough
(`confidence`). Where data steps have made variants of a row, these are learned in its place. One phase is one round:
the first is `{classify: {unlabeled: leave_out}}`, and each later one has the one before as its teacher. Every row that
is taken or left is in the phase's ledger. Use it where labels are few and no way of saying texts differently is at
hand. Source: Yarowsky 1995 (ACL, P95-1026); with noise for the student Xie et al. 2020 (arXiv:1911.04252). Errors:
ModelError for a teacher of other classes or with another tokenizer; DataError where no row lacks a class, for several
classes a row, and for rows that classify refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.contracts import Batch, Ledger, Models, Row, Term
from ..core.errors import Problem
from ..core.example import Example
from ..core.unlabeled import Unlabeled, balanced, is_labeled, paired

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.recipe import Phase, Recipe

__all__ = ["SelfTrain"]


class SelfTrain(Unlabeled):
    """Trains a classifier from labeled rows and from a teacher's classes of others."""

    example: ClassVar[dict[str, Any]] = {"teacher": "runs/teacher", "confidence": 0.0, "share": 0.5}
    roles: ClassVar[frozenset[str]] = frozenset({"teacher"})

    teacher: str = Field(
        description="the model that names classes: an earlier phase, a run, a folder or a hub id",
        examples=["runs/teacher"],
    )
    confidence: float = Field(0.9, ge=0, le=1, description="the least probability of a class that is learned")
    share: float = Field(
        1.0, gt=0, le=1, description="of the rows of each class that the teacher names, the surest so many"
    )

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        names = [one.name for one in recipe.phases]
        if phase is not None and self.teacher in names and names.index(self.teacher) >= names.index(phase.name):
            yield Problem(
                f"the teacher of phase '{phase.name}' is phase '{self.teacher}', which does not come before it",
                expected="an earlier phase, or a model from outside",
                remedy=f"put the phase '{self.teacher}' before it, or name a run or a folder",
            )

    def sources(self) -> Mapping[str, str]:
        return {"teacher": self.teacher}

    def complete(self, rows: Sequence[Row], seed: int) -> list[Row]:
        """Unlabeled rows with their variants; how often labeled ones come is known once rows are taken."""
        return paired(rows)

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.branches import only_branch

        return {"said": models.role("teacher").class_logits(only_branch(batch, 0)).float()}

    def settle(
        self, rows: Sequence[Row], examples: Mapping[str, Example], facts: Mapping[str, Any], ledger: Ledger
    ) -> list[Row]:
        """Labeled rows, and those that the teacher is sure of, each in the view that is learned."""
        said = {_family(row): _surest(row) for row in rows if not is_labeled(row)}
        taken = self._taken(said)
        found, told = [], set()
        for row in rows:
            if is_labeled(row):
                found.append(_learned(row, int(row.fields["label"]), pseudo=False))
                continue
            family = _family(row)
            label, sure = said[family]
            if family not in told:  # once for all of its variants
                told.add(family)
                name = facts["classes"][label]
                if family in taken:
                    ledger.add(_named(examples[row.id], name), f"labeled by the teacher: {sure:.3f}")
                else:
                    why = "not sure enough" if sure < self.confidence else "surer of others of the class"
                    ledger.drop(examples[row.id], f"the teacher is {why}: {sure:.3f} for '{name}'")
            if family in taken:
                found.append(_learned(row, label, pseudo=True))
        return balanced(found, [not row.fields["pseudo"] for row in found], self.unlabeled)

    def _taken(self, said: Mapping[int, tuple[int, float]]) -> frozenset[int]:
        """The families that are learned from: of each class the surest share, and none below the confidence."""
        of_class: dict[int, list[int]] = {}
        for family in sorted(said, key=lambda one: -said[one][1]):
            of_class.setdefault(said[family][0], []).append(family)
        surest = [family for each in of_class.values() for family in each[: max(1, round(self.share * len(each)))]]
        return frozenset(family for family in surest if said[family][1] >= self.confidence)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        pseudo = batch.fields["pseudo"]
        return {"cross_entropy": batch.weights * ~pseudo, "pseudo_labels": batch.weights * pseudo}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        import torch.nn.functional as F

        from ..functional.consistency import wide

        losses = F.cross_entropy(wide(models.policy.class_logits(batch)), batch.fields["label"], reduction="none")
        totals = {name: losses * count for name, count in self.counts(batch).items()}
        weights = {"cross_entropy": 1.0, "pseudo_labels": self.weight}
        return [Term(name, total, weight=weights[name]) for name, total in totals.items()]


def _family(row: Row) -> int:
    return int(row.fields["family"])


def _surest(row: Row) -> tuple[int, float]:
    """The class that the teacher finds most probable, and its probability."""
    said = row.fields["said"].astype(np.float64)
    shares = np.exp(said - said.max())
    label = int(shares.argmax())
    return label, float(shares[label] / shares.sum())


def _learned(row: Row, label: int, *, pseudo: bool) -> Row:
    """The row's last view with a class."""
    last = row.branches[-1]
    fields = {"label": np.asarray(label, dtype=np.int64), "pseudo": np.asarray(pseudo)}
    return replace(row, ids=row.ids[-last:], supervised=row.supervised[-last:], branches=(last,), fields=fields)


def _named(example: Example, name: str) -> Example:
    """The row with the teacher's class, as one that was made from it."""
    origin = replace(example.origin, parents=(example.id,), steps=(*example.origin.steps, "self_train"), synthetic=True)
    return replace(example, id=f"{example.id}~self_train.1", target=name, origin=origin)
