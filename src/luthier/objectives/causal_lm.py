"""Causal language modeling: next-token loss on plain text and on the trained turns of conversations.

The loss of a step is the sum of token losses over the supervised tokens of the whole step (nats a token).
Source: Bengio et al. 2003; label smoothing after Szegedy et al. 2016 (arXiv:1512.00567), section 7.
Errors: an example with neither text nor messages is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.errors import DataError
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CausalLM"]


class CausalLM(Objective):
    """Text is supervised whole; of a conversation, the trained turns, each up to its stop token.

    label_smoothing: share of the target's probability spread over the vocabulary (0 to 1).
    """

    example: ClassVar[dict[str, Any]] = {"label_smoothing": 0.1}
    needs: ClassVar[frozenset[str]] = frozenset({"messages", "text"})
    task: ClassVar[Task] = "causal_lm"
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        if "messages" in example.parts:
            return encoder.conversation(example)
        if "text" in example.parts:
            return encoder.document(example)
        raise DataError(
            f"the row '{example.id}' has the parts {', '.join(example.parts) or '(none)'}",
            where=str(example.origin),
            expected="messages or text, for the objective causal_lm",
            remedy="use an objective for this kind of data, or name the format in data.train",
        )

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
