"""Distillation of a language model: what a teacher expects next is learned beside what comes next.

    hard x nll + (1 - hard) x T^2 x D(teacher's distribution, student's), both softmax(logits / T)

Per supervised token, in nats; both terms are sums over the step divided by its supervised tokens. The teacher is asked
once, in eval mode, before the first step. Of its distribution the top_k most probable tokens are kept, with the
probability of all others together as one more outcome; with top_k as large as the vocabulary the distance is exact. Use
it to put what a large model learned into a smaller one with the same tokenizer. Source: Hinton et al. 2015
(arXiv:1503.02531), section 2; Kim and Rush 2016 (arXiv:1606.07947), eq. 4; reverse KL: Gu et al. 2024
(arXiv:2306.08543); Jensen-Shannon: Agarwal et al. 2024 (arXiv:2306.13649). Errors: ModelError for a teacher with
another tokenizer; DataError for rows that causal_lm refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.component import build
from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example
from ..core.taught import Taught

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Distill"]


class Distill(Taught):
    """Rows are those of causal_lm, and the same tokens are supervised. Reported: nll and divergence."""

    example: ClassVar[dict[str, Any]] = {"teacher": "embedded:nano", "divergence": "jensen_shannon", "top_k": 16}
    needs: ClassVar[frozenset[str]] = frozenset({"messages", "text"})
    task: ClassVar[Task] = "causal_lm"
    asked_with: ClassVar[tuple[str, ...]] = ("top_k", "temperature")
    of_tokens: ClassVar[frozenset[str]] = frozenset({"ids", "logps"})
    top_k: int = Field(64, ge=1, description="tokens of the teacher's distribution that are kept; each costs 8 bytes")

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        plain = build("objectives", "causal_lm")
        assert isinstance(plain, Objective)
        return plain.encode(example, encoder)

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        from ..functional.distillation import shortlist

        def read(logits: Tensor) -> tuple[Tensor, ...]:
            return shortlist(logits, self.top_k, self.temperature)

        ids, logps = models.role("teacher").of_logits(batch, read)
        return {"ids": ids, "logps": logps}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        from ..functional.packing import segment_sum, sequence_index

        tokens = segment_sum(batch.supervised.float(), sequence_index(batch.starts), batch.size) * batch.weights
        return {"nll": tokens, "divergence": tokens}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.distillation import divergence, shortlisted
        from ..functional.logprobs import logps_of_logits
        from ..functional.packing import segment_sum, sequence_index

        def read(logits: Tensor, targets: Tensor, ids: Tensor, teacher: Tensor) -> tuple[Tensor, ...]:
            student = shortlisted(logits, ids, self.temperature)
            return -logps_of_logits(logits, targets), divergence(student, teacher, self.divergence)

        targets = batch.ids[batch.supervised]
        nll, apart = models.policy.of_logits(batch, read, targets, batch.tokens["ids"], batch.tokens["logps"])
        index = sequence_index(batch.starts)[batch.supervised]
        totals = [segment_sum(values, index, batch.size) * batch.weights for values in (nll, apart)]
        return [
            Term("nll", totals[0], weight=self.hard),
            Term("divergence", totals[1], weight=(1 - self.hard) * self.temperature**2),
        ]
