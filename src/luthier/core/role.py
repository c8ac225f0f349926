"""What an objective sees of models: verbs, not layers. Nothing here imports torch at run time.

Shapes: S sequences, B branches, T tokens, N supervised tokens, H wide, C classes, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from .batch import Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Models", "Role"]


class Role(Protocol):
    """A model as an objective sees it: verbs, not layers. What is packed or chunked stays behind them."""

    model: nn.Module

    def logps(self, batch: Batch, smoothing: float = 0.0, *, alike: bool = False) -> Tensor:
        """[N] log-probabilities of the supervised tokens, in batch order. Smoothing e: (1-e) logp + e mean logp.

        Of a batch with targets: of each target, at its own token, where the model sees the whole row.
        alike: the loss is going to weigh them all alike; only the cost depends on it.
        """
        ...

    def logps_and_states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[N] as `logps`, and [N, H] the states below the output layer that they were told from."""
        ...

    def of_logits(self, batch: Batch, read: Callable[..., tuple[Tensor, ...]], *given: Tensor) -> tuple[Tensor, ...]:
        """[N, ...] each: what `read(logits [n, V], *given [n, ...])` finds at the supervised tokens, in batch order.

        It is given a part of them at a time, so that the logits never exist as a whole. given: [N, ...].
        """
        ...

    def class_logits(self, batch: Batch) -> Tensor:
        """[S, C] logits of the model's classification head; of rows that branch [B, C], one for each branch."""
        ...

    def token_logits(self, batch: Batch) -> Tensor:
        """[N, C] logits of the model's token-classification head at the supervised tokens, in batch order."""
        ...

    def span_logits(self, batch: Batch) -> Tensor:
        """[T, 2] logits of the model's question-answering head: of an answer's first token, and of its last."""
        ...

    def vectors(self, batch: Batch) -> Tensor:
        """[S, H] float32 vectors of texts, pooled as the model's folder asks; of rows that branch [B, H]."""
        ...


class Models(Protocol):
    """The roles of a phase: the policy that is trained, and those that an objective names beside it."""

    @property
    def policy(self) -> Role:
        """The model that is trained."""
        ...

    def role(self, name: str) -> Role:
        """One of the objective's `roles`. Errors: KeyError for one that is not there now."""
        ...

    @property
    def average(self) -> Role:
        """The policy with the mean of its weights over the steps (`Objective.averaging`); itself where none is kept."""
        ...

    @property
    def own(self) -> nn.Module | None:
        """What the objective's `begin` gave."""
        ...
