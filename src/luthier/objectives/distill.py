"""Distillation of a language model: what a teacher expects next is learned beside what comes next.

    hard x nll + (1 - hard) x T^2 x D(teacher's distribution, student's), both softmax(logits / T)

Per supervised token, in nats; both terms are sums over the step divided by its supervised tokens. The teacher is asked
once, in eval mode, before the first step. Of its distribution the top_k most probable tokens are kept, with the
probability of all others together as one more outcome; with top_k as large as the vocabulary the distance is exact. Use
it to put what a large model learned into a smaller one with the same tokenizer. With `layers` the states of the
teacher's layers are learned too, where they tell a supervised token, through linear maps that are trained beside the
model and left out of it where the two are not equally wide. With `on_policy` the student writes that share of the
answers itself as it is at each step (a row's last, from what precedes it), and learns what the teacher would have said
along them: it then learns to go on from its own mistakes; such rows have no nll. For a teacher with another tokenizer
take distill_across, or have it write the answers (step teacher_answers). Source: Hinton et al. 2015 (arXiv:1503.02531),
section 2; Kim and Rush 2016 (arXiv:1606.07947), eq. 4; reverse KL: Gu et al. 2024 (arXiv:2306.08543); Jensen-Shannon
and on_policy: Agarwal et al. 2024 (GKD, arXiv:2306.13649), eq. 1 and algorithm 1; states: Jiao et al. 2020 (TinyBERT,
arXiv:1909.10351), Sanh et al. 2019 (DistilBERT, arXiv:1910.01108). Errors: ModelError for a teacher with another
tokenizer or without these layers; DataError for rows that causal_lm refuses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.component import build
from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example
from ..core.taught import TaughtAlike

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Distill"]


class Distill(TaughtAlike):
    """Rows are those of causal_lm, and the same tokens are supervised. Reported: nll, divergence and states; with
    on_policy the share of answers that were the student's own, and how long they were.
    """

    example: ClassVar[dict[str, Any]] = {"teacher": "embedded:nano", "divergence": "jensen_shannon", "top_k": 16}
    needs: ClassVar[frozenset[str]] = frozenset({"messages", "text"})
    task: ClassVar[Task] = "causal_lm"
    asked_with: ClassVar[tuple[str, ...]] = ("top_k", "temperature")
    of_tokens: ClassVar[frozenset[str]] = frozenset({"ids", "logps"})
    top_k: int = Field(64, ge=1, description="tokens of the teacher's distribution that are kept; each costs 8 bytes")
    on_policy: float = Field(0.0, ge=0, le=1, description="the share of answers that the student writes itself")
    max_new_tokens: int = Field(64, gt=0, description="longest answer of its own, in tokens; a longer one is cut")

    @property
    def asked_throughout(self) -> bool:
        return bool(self.layers) or self.on_policy > 0

    @property
    def writes(self) -> tuple[float, int]:
        return self.on_policy, self.max_new_tokens

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        plain = build("objectives", "causal_lm")
        assert isinstance(plain, Objective)
        rows = plain.encode(example, encoder)
        if not self.on_policy:
            return rows
        return [replace(row, fields={**row.fields, "own": np.zeros((), dtype=np.float32)}) for row in rows]

    def begin(self, models: Models) -> nn.Module | None:
        from ..models.states import projections

        return projections(models, self.layers)

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.distillation import shortlist

        def read(logits: Tensor) -> tuple[Tensor, ...]:
            return shortlist(logits, self.top_k, self.temperature)

        ids, logps = models.role("teacher").of_logits(batch, read)
        return {"ids": ids, "logps": logps}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        from ..functional.packing import segment_sum, sequence_index

        tokens = segment_sum(batch.supervised.float(), sequence_index(batch.starts), batch.size) * batch.weights
        learned = {"nll": tokens * self._given(batch), "divergence": tokens}
        return {**learned, "states": tokens} if self.layers else learned

    def _given(self, batch: Batch) -> Tensor | float:
        """[S]: 1 where the answer is the row's own and not the student's."""
        return 1 - batch.fields["own"] if self.on_policy else 1.0

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.distillation import divergence, shortlisted
        from ..functional.logprobs import logps_of_logits
        from ..functional.packing import segment_sum, sequence_index
        from ..models.states import apart

        def read(logits: Tensor, targets: Tensor, ids: Tensor, teacher: Tensor) -> tuple[Tensor, ...]:
            student = shortlisted(logits, ids, self.temperature)
            return -logps_of_logits(logits, targets), divergence(student, teacher, self.divergence, self.beta)

        targets = batch.ids[batch.supervised]
        index = sequence_index(batch.starts)[batch.supervised]

        def of_rows(values: Tensor) -> Tensor:
            return segment_sum(values, index, batch.size) * batch.weights

        with apart(models, batch, self.layers, self.state_distance) as between:
            nll, far = models.policy.of_logits(batch, read, targets, batch.tokens["ids"], batch.tokens["logps"])
        terms = [
            Term("nll", of_rows(nll) * self._given(batch), weight=self.hard),
            Term("divergence", of_rows(far), weight=(1 - self.hard) * self.temperature**2),
        ]
        if self.layers:
            told = between()[batch.supervised.nonzero()[:, 0] - 1]
            terms.append(Term("states", of_rows(told), weight=self.state_weight))
        return terms
