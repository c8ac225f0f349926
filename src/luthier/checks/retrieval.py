"""What a text finds by its vector: recall, precision at 1, reciprocal rank and nDCG, all 0 to 1.

Of pairs, each a looks among the b (and negatives) of all items for its own; of texts with a class, each looks among the
others for those of its class; no text finds itself. recall_k: the share of the right ones among the k nearest by
cosine. mrr: 1 over the place of the first right one. ndcg_10: of the ten nearest. Source: Manning, Raghavan and Schütze
2008, chapter 8; Järvelin and Kekäläinen 2002; Thakur et al. 2021 (arXiv:2104.08663). Errors: DataError without such
items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core.contracts import Floats
from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example
from ..functional.retrieval import found_at, unit
from ..functional.statistics import row_mean

__all__ = ["Retrieval"]

_TOGETHER = 512
"""Questions that are held against all texts at a time."""


class Retrieval(Check):
    """Looks for each item's own among all items of the test split, or of `on`. A class with a single text is left out
    of the questions, and stays among what is searched.
    """

    example: ClassVar[Mapping[str, Any]] = {"cuts": [1, 5], "limit": 2000}
    tasks: ClassVar[frozenset[str]] = frozenset({"features"})
    needs: ClassVar[frozenset[str]] = frozenset({"a", "text"})
    on: str | None = Field(None, description="a file of pairs or labeled texts; default: the recipe's own test rows")
    cuts: tuple[int, ...] = Field((1, 10), min_length=1, description="the k of recall_k")
    limit: int | None = Field(None, gt=0, description="at most so many items, chosen by their ids")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        rows = context.read(self.on) if self.on is not None else test
        pairs = [row for row in rows if {"a", "b"} <= row.parts.keys()]
        labeled = [row for row in rows if "text" in row.parts and isinstance(row.target, str)]
        chosen = context.choose(pairs or labeled, self.limit)
        if not pairs:
            classes = [str(row.target) for row in chosen]
            if len(set(classes)) == len(classes):
                raise DataError(
                    f"of {len(rows)} rows none is a pair, and no two are of one class",
                    where=self.on or "data.test",
                    expected="pairs (a, b) or texts with a label, several of each class",
                    remedy="name a file of such rows in checks: retrieval: on",
                )
        return chosen

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        pairs = "a" in examples[0].parts
        if pairs:
            texts = list(
                dict.fromkeys(str(row.parts[n]) for row in examples for n in ("b", "negative") if n in row.parts)
            )
            asked = [str(row.parts["a"]) for row in examples]
            right, own = _right(examples, asked, texts)
        else:
            texts = asked = [str(row.parts["text"]) for row in examples]
            classes = np.array([str(row.target) for row in examples])
            right = classes[:, None] == classes[None, :]
            np.fill_diagonal(right, False)
            own = np.arange(len(texts))
        vectors = unit(subject.embed(texts))
        questions = unit(subject.embed(asked)) if pairs else vectors
        found: list[Mapping[str, Floats]] = []
        for low in range(0, len(asked), _TOGETHER):
            near = questions[low : low + _TOGETHER] @ vectors.T
            itself = own[low : low + _TOGETHER]
            known = np.flatnonzero(itself >= 0)
            near[known, itself[known]] = -np.inf
            found.append(found_at(near, right[low : low + _TOGETHER], self.cuts))
        values = {name: np.concatenate([part[name] for part in found])[:, None] for name in found[0]}
        kept = np.flatnonzero(right.any(axis=1)).tolist()
        note = f"{subject.about}; {len(kept)} questions, {len(texts)} texts"
        return context.scores([examples[at] for at in kept], {n: v[kept] for n, v in values.items()}, note=note)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        names = [*(f"recall_{cut}" for cut in self.cuts), "precision_1", "mrr", "ndcg_10"]
        return [Measure(name, "higher", row_mean, binary=name == "precision_1", share=True) for name in names]


def _right(
    examples: Sequence[Example], asked: Sequence[str], texts: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """[n, M]: the b of every item that asks the same; and [n] where the question itself lies, -1 where it is right or
    not among the texts.
    """
    place = {text: at for at, text in enumerate(texts)}
    answers: dict[str, set[int]] = {}
    for row, question in zip(examples, asked, strict=True):
        answers.setdefault(question, set()).add(place[str(row.parts["b"])])
    right = np.zeros((len(asked), len(texts)), dtype=np.bool_)
    for at, question in enumerate(asked):
        right[at, list(answers[question])] = True
    own = [-1 if place.get(question) in answers[question] else place.get(question, -1) for question in asked]
    return right, np.array(own, dtype=np.int64)
