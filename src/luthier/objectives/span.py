"""Extractive question answering: where in a passage the answer to a question begins, and where it ends.

For what stands in a text word for word; where an answer is to be worded, take causal_lm. A passage longer than
max_length becomes windows that share `stride` tokens, the question before each. A window without the whole answer
(each one, where a question has none) is to name its first token, as in SQuAD 2. The loss in nats is the mean of two
cross-entropies over a window's tokens, of the answer's first and last, divided by the windows of the step; of several
reference answers the first counts. Source: Devlin et al. 2019 (arXiv:1810.04805), sections 4.2 and 4.3; Rajpurkar et
al. 2018 (arXiv:1806.03822). Errors: DataError for an answer that its passage does not hold; ModelError for decoders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.errors import DataError, Problem
from ..core.example import Example
from ..data.passages import Passage, answer_places, passages

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.recipe import Phase, Recipe

__all__ = ["Span"]


class Span(Objective):
    """Where every training question has an answer, a prediction always names one; else it may name none. How answers
    are read stands in the exported configuration as `span`, where `luthier generate` finds it.
    """

    example: ClassVar[dict[str, Any]] = {"stride": 32, "longest": 12}
    needs: ClassVar[frozenset[str]] = frozenset({"question"})
    task: ClassVar[Task] = "question_answering"
    stride: int = Field(
        128, ge=0, description="tokens that neighboring windows share, at most half of what a window holds"
    )
    longest: int = Field(30, gt=0, description="tokens that a predicted answer may have")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        from ..data.windows import overlong_problems

        return overlong_problems(phase)

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """span: stride, longest, and whether there are questions without an answer."""
        places = [answer_places(example) for example in examples]
        if not any(places):
            raise DataError(
                "not one question of the training data has an answer",
                where=examples[0].origin.file if examples else None,
                expected="answers with text and answer_start",
                remedy="name the format spans and the column of the answers, columns: {answers: ...}",
            )
        return {"span": {"stride": self.stride, "longest": self.longest, "unanswerable": not all(places)}}

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        for example in held_out:
            answer_places(example)

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        places = answer_places(example)
        rows = []
        for passage in passages(example, encoder, self.stride):
            ends = _ends(passage, *places[0]) if places else (0, 0)
            rows.append(replace(passage.row, fields={"ends": np.array(ends, dtype=np.int64)}))
        return rows

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"cross_entropy": batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        import torch

        from ..functional.spans import span_losses

        logits = models.policy.span_logits(batch)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        losses = span_losses(logits, batch.starts, batch.positions, batch.fields["ends"])
        return [Term("cross_entropy", losses * batch.weights)]


def _ends(passage: Passage, begin: int, end: int) -> tuple[int, int]:
    """The tokens that an answer's first and last character belong to; 0 and 0 where the window does not hold both."""
    from_, to = passage.characters.T
    inside = from_ >= 0
    if not inside.any() or from_[inside][0] > begin or to[inside][-1] < end:
        return 0, 0
    touched = np.flatnonzero(inside & (to > begin) & (from_ < end))
    return (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)
