"""Supervised tuning of encoder-decoders (T5, BART): the encoder reads the prompt, the decoder learns the answer.

The loss of a step is the sum of token losses over all answers of the step, to each one's end token, divided by their
number (nats a token). For translation, summaries and whatever else turns one text into another; a conversation of
several exchanges is for language models. `max_length` is the limit of the prompt and of the answer, each by itself.
Source: Sutskever et al. 2014 (arXiv:1409.3215); Raffel et al. 2020 (T5, arXiv:1910.10683), section 2; label smoothing
after Szegedy et al. 2016 (arXiv:1512.00567), section 7.
Errors: a row with several exchanges before its answer, or with tools, is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Seq2Seq"]


class Seq2Seq(Objective):
    """Every token of an answer is supervised; what the encoder reads is not.

    label_smoothing: share of the target's probability spread over the vocabulary (0 to 1).
    """

    example: ClassVar[dict[str, Any]] = {"label_smoothing": 0.1}
    needs: ClassVar[frozenset[str]] = frozenset({"messages"})
    task: ClassVar[Task] = "seq2seq"
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        return encoder.answered(example)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        from ..functional.packing import segment_sum, sequence_index

        per_sequence = segment_sum(batch.supervised.float(), sequence_index(batch.starts), batch.size)
        return {"nll": per_sequence * batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.packing import segment_sum, sequence_index

        alike = bool((batch.weights == batch.weights[:1]).all())
        logps = models.policy.logps(batch, smoothing=self.label_smoothing, alike=alike)
        index = sequence_index(batch.starts)[batch.supervised]
        return [Term("nll", segment_sum(-logps, index, batch.size) * batch.weights)]
