"""Distillation of a language model from a teacher with another tokenizer.

    hard x nll + (1 - hard) x (D(teacher's spans, student's) + ranks x sum_i |p_(i) - q_(i)|)

A span is what lies between two characters at which both tokenizers end a token; its probability is the product of its
tokens'. D is between two distributions of two outcomes each, this text and any other: p^(1/T) and 1 - p^(1/T). With
`ranks`, the sorted distributions of both over what follows, softmax(logits / T), are compared too, rank by rank, where
a span begins; of the teacher's the top_k largest probabilities are kept, with all others together as one more. All
terms are sums over the step divided by its supervised tokens, in nats (ranks: without unit). The teacher is asked once,
in eval mode, before the first step; its own chat template renders what it is asked. Use it where the better teacher is
of another family; with the same tokenizer distill tells more. Source: Minixhofer et al. 2025 (ALM, arXiv:2503.20083),
section 3; ranks: Boizard et al. 2024 (ULD, arXiv:2402.12030), section 3.2, at the beginnings of spans in place of equal
numbers of tokens. Errors: DataError for rows that causal_lm refuses, or that the teacher has no room for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.component import build
from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.errors import DataError, Problem
from ..core.example import Example
from ..core.taught import Taught

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.recipe import Phase, Recipe

__all__ = ["DistillAcross"]


class DistillAcross(Taught):
    """Rows are those of causal_lm, and the same tokens are supervised. Reported: nll, spans and ranks, and the share of
    the supervised tokens that lie in spans (aligned): of the others the teacher says nothing.
    """

    example: ClassVar[dict[str, Any]] = {"teacher": "embedded:nano", "divergence": "jensen_shannon"}
    needs: ClassVar[frozenset[str]] = frozenset({"messages", "text"})
    task: ClassVar[Task] = "causal_lm"
    asked_with: ClassVar[tuple[str, ...]] = ("top_k", "temperature", "ranks")
    of_tokens: ClassVar[frozenset[str]] = frozenset({"said", "ranks"})
    other_tokenizers: ClassVar[bool] = True

    temperature: float = Field(
        1.0, gt=0, description="the root that is taken of spans' probabilities, and what divides logits for ranks"
    )
    ranks: float = Field(0.0, ge=0, description="how much sorted distributions weigh beside spans; ULD takes 1.5")
    top_k: int = Field(64, ge=1, description="ranks of the teacher's distribution that are kept; each costs 4 bytes")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        yield from super().problems(recipe, phase)
        if self.teacher in [one.name for one in recipe.phases]:
            yield Problem(
                f"the teacher is phase '{self.teacher}' of this recipe, which has the student's tokenizer",
                expected="a teacher with a tokenizer of its own",
                remedy="take the objective distill",
            )

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        plain = build("objectives", "causal_lm")
        assert isinstance(plain, Objective)
        rows, teacher = plain.encode(example, encoder), encoder.beside.get("teacher")
        if teacher is None or not rows:
            return rows  # the teacher is not asked: the rows are to be measured
        theirs = plain.encode(example, teacher)
        if not theirs:
            raise DataError(
                f"the teacher has no room for the row '{example.id}'",
                where=str(example.origin),
                expected=f"at most {teacher.max_length} of the teacher's tokens",
                remedy="leave it out, or choose a teacher that takes longer texts",
            )
        # Later windows of a text begin elsewhere for each; the rows of a conversation are one for each answer.
        alike = len(rows) if "messages" in example.parts and len(rows) == len(theirs) else 1
        beside = [_beside(*pair, encoder, teacher) for pair in zip(rows[:alike], theirs, strict=False)]
        return beside + [_alone(row, theirs[0]) for row in rows[alike:]]

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.aligned import FIRST, span_sums

        theirs, ours = batch.views["teacher"], batch.tokens["marks"] == FIRST
        marks, targets = theirs.tokens["marks"], theirs.ids[theirs.supervised]
        places = ours.nonzero()[:, 0]

        def at_firsts(values: Tensor) -> Tensor:
            """[N, ...] at the student's tokens that begin a span, 0 elsewhere."""
            return values.new_zeros(len(ours), *values.shape[1:]).index_copy(0, places, values)

        found = models.role("teacher").of_logits(theirs, self._read, targets)
        said = {"said": at_firsts(span_sums(found[0], marks))}
        return {**said, "ranks": at_firsts(found[1][marks == FIRST])} if self.ranks else said

    def _read(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """[n] log-probabilities of targets, and [n, k + 1] ranked probabilities where they are compared."""
        from ..functional.aligned import ranked
        from ..functional.logprobs import logps_of_logits

        logps = logps_of_logits(logits, targets)
        return (logps, ranked(logits, self.top_k, self.temperature)) if self.ranks else (logps,)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        from ..functional.packing import segment_sum, sequence_index

        tokens = segment_sum(batch.supervised.float(), sequence_index(batch.starts), batch.size) * batch.weights
        return dict.fromkeys(("nll", "spans", "ranks") if self.ranks else ("nll", "spans"), tokens)

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.aligned import FIRST, OUTSIDE, ranks_apart, span_divergence, span_sums
        from ..functional.packing import segment_sum, sequence_index

        found = models.policy.of_logits(batch, self._read, batch.ids[batch.supervised])
        index, tokens = sequence_index(batch.starts)[batch.supervised], batch.tokens
        firsts = tokens["marks"] == FIRST

        def of_rows(values: Tensor, index: Tensor) -> Tensor:
            return segment_sum(values, index, batch.size) * batch.weights

        ours, theirs = span_sums(found[0], tokens["marks"]), tokens["said"][firsts]
        far = span_divergence(ours, theirs, self.divergence, self.beta, self.temperature)
        aligned = of_rows((tokens["marks"] != OUTSIDE).to(far), index)
        terms = [
            Term("nll", of_rows(-found[0], index), weight=self.hard),
            Term("spans", of_rows(far, index[firsts]), weight=1 - self.hard, figures={"aligned": aligned}),
        ]
        if self.ranks:
            apart = ranks_apart(found[1][firsts], tokens["ranks"][firsts])
            terms.append(Term("ranks", of_rows(apart, index[firsts]), weight=(1 - self.hard) * self.ranks))
        return terms


def _beside(row: Row, other: Row, encoder: Encoder, teacher: Encoder) -> Row:
    """The row with the teacher's beside it, and where the tokens of both end alike."""
    from ..data.aligned import span_marks

    ours, theirs = span_marks(row, encoder.tokenizer, other, teacher.tokenizer)
    return replace(row, tokens={"marks": ours}, views={"teacher": replace(other, tokens={"marks": theirs})})


def _alone(row: Row, other: Row) -> Row:
    """The row with nothing that the teacher says of it: it is shown the beginning of another."""
    nothing = np.zeros(int(row.supervised.sum()), dtype=np.int8)
    shown = replace(other, ids=other.ids[:2], supervised=np.array([False, True]), tokens={"marks": nothing[:1]})
    return replace(row, tokens={"marks": nothing}, views={"teacher": shown})
