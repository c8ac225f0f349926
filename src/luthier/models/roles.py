"""Roles: a model as objectives see it, by verbs. Packed where the model can be, padded where it cannot; same numbers.

Shapes: S sequences, T tokens, N supervised tokens, H wide, C classes. Errors: ModelError for a verb that the
model has no head for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel

from ..core import contracts
from ..core.contracts import Batch
from ..core.errors import ModelError
from ..functional.branches import attended, unshared
from ..functional.logprobs import logps_of_logits, read_through, token_logps, token_logps_through
from ..functional.packing import sequence_index
from .attention import (
    backbone_of,
    hidden_states,
    looks_back,
    packed_call,
    position_offset,
    transformer_of,
)
from .encoder_decoder import TwoSides
from .fused import fuse
from .grid import Grid, rerouted
from .head_probe import head_agrees, said, tells_spans
from .output_layer import bending, head_is_last
from .pooling import Pooling, pool
from .prompt import has_prompt
from .rotary import Part, frequency_limit, joined, parts_of
from .tokens import refuse_rowless

__all__ = ["Models", "Role", "models_for", "role_of"]


@dataclass(frozen=True)
class Models:
    """The roles of a phase: the policy, others by name, and what the objective trains of its own."""

    policy: contracts.Role
    others: Mapping[str, contracts.Role] = field(default_factory=dict)
    own: nn.Module | None = None

    def role(self, name: str) -> contracts.Role:
        """One of the others. Errors: KeyError for one that is not there now."""
        return self.others[name]

    @property
    def average(self) -> contracts.Role:
        """The role of that name; the policy where nothing follows it."""
        return self.others.get("average", self.policy)


@dataclass
class Role:
    """One model and the way it is called.

    offset: what it adds to positions in a pack; None: it is padded with the token `pad`.
    embedding_noise: alpha of NEFTune (Jain et al. 2023, eq. 1), in training mode only: uniform noise in
    alpha / sqrt(L * H) * [-1, 1] on the embeddings of a row of L tokens, all its branches counted.
    pooling: how vectors of texts are made of hidden states.
    """

    model: nn.Module
    pad: int
    offset: int | None
    embedding_noise: float = 0.0
    pooling: Pooling = field(default_factory=Pooling)

    @property
    def packed(self) -> bool:
        """Whether sequences go in end to end, without padding."""
        return self.offset is not None

    def logps(self, batch: Batch, smoothing: float = 0.0, *, alike: bool = False) -> Tensor:
        """[N] float32: log-probabilities of the supervised tokens, in batch order, given what precedes each.

        Of a batch with targets: of each target at its own token, given the whole row (a masked language model's).
        With smoothing e: (1 - e) logp + e * mean of logp over the vocabulary. Nothing supervised: [0], still attached.
        alike: the loss is going to weigh them all alike, which saves an output layer that learns a second product.
        """
        inner = transformer_of(self.model)
        head = _output_layer(inner)
        batch = self._seen(batch)
        parts = self._parts(inner, batch)
        if parts:
            found = [self.logps(part.batch, smoothing, alike=alike) for part in parts]
            return joined([part.supervised for part in parts], found)
        at = batch.supervised.nonzero()[:, 0]
        targets = (batch.ids if batch.targets is None else batch.targets).index_select(0, at)
        hidden = self._told_from(inner, head, batch, at)
        if hidden is None:
            return logps_of_logits(self._logits_of_forward(inner, batch, at - 1), targets, smoothing)
        return self._of_states(inner, hidden, targets, smoothing, alike=alike)

    def logps_and_states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[N] as `logps` of a batch without targets, and [N, H] the states below the output layer they were told from.

        One forward pass (two for a model that does more between states and logits than is known here).
        """
        batch, inner = self._seen(batch), transformer_of(self.model)
        at = batch.supervised.nonzero()[:, 0]
        states = self.hidden(batch).index_select(0, at - 1)
        if not head_is_last(inner, self.pad):
            return self.logps(batch), states
        return self._of_states(inner, states, batch.ids.index_select(0, at)), states

    def _of_states(
        self, inner: PreTrainedModel, hidden: Tensor, targets: Tensor, smoothing: float = 0.0, *, alike: bool = False
    ) -> Tensor:
        """[N] float32 log-probabilities of targets by the output layer, from states [N, H] below it."""
        head, (softcap, scale) = _output_layer(inner), bending(inner)
        if type(head) is nn.Linear and not head._forward_hooks and not head._forward_pre_hooks:
            rule: dict[str, Any] = {"softcap": softcap, "scale": scale, "smoothing": smoothing}
            return token_logps(hidden, head.weight, targets, bias=head.bias, **rule, alike=alike)
        return token_logps_through(
            head,
            hidden,
            targets,
            vocabulary=inner.config.get_text_config().vocab_size,
            softcap=softcap,
            scale=scale,
            smoothing=smoothing,
        )

    def of_logits(self, batch: Batch, read: Callable[..., tuple[Tensor, ...]], *given: Tensor) -> tuple[Tensor, ...]:
        """[N, ...] each: what `read(logits [n, V], *given [n, ...])` finds at the supervised tokens, in batch order.

        In parts, each computed again in the backward pass: the logits never exist as a whole (but for a model that does
        more between its output layer and its logits than is known here).
        """
        inner = transformer_of(self.model)
        head = _output_layer(inner)
        batch = self._seen(batch)
        parts = self._parts(inner, batch)
        if parts:
            found = [
                self.of_logits(p.batch, read, *(one.index_select(0, p.supervised) for one in given)) for p in parts
            ]
            return tuple(joined([part.supervised for part in parts], column) for column in zip(*found, strict=True))
        at = batch.supervised.nonzero()[:, 0]
        hidden = self._told_from(inner, head, batch, at)
        if hidden is None:
            return read(self._logits_of_forward(inner, batch, at - 1), *given)
        softcap, scale = bending(inner)
        vocabulary = inner.config.get_text_config().vocab_size
        return read_through(head, hidden, read, *given, vocabulary=vocabulary, softcap=softcap, scale=scale)

    def class_logits(self, batch: Batch) -> Tensor:
        """[S, C] logits of transformers' own classification head; of rows that branch [B, C].

        The model's forward runs on a padded grid that says only where sequences end, while its backbone is handed the
        pack, and gives the grid of hidden states back: whatever the head pools (first, last, mean), it finds.
        """
        inner = transformer_of(self.model)
        if backbone_of(inner) is inner or inner.get_output_embeddings() is not None:
            raise ModelError(f"{type(inner).__name__} has no classification head")
        batch = self._seen(batch)
        parts = self._parts(inner, batch)
        if parts:
            return joined([part.sequences for part in parts], [self.class_logits(part.batch) for part in parts])
        plain, places = (batch, None) if batch.branches is None else unshared(batch)
        grid = Grid.of(plain)
        config = inner.config.get_text_config()
        if config.pad_token_id is None:
            config.pad_token_id = self.pad
        # The head finds the end by comparing ids with the padding token, which a real token may equal (as pad = eos).
        marks = torch.where(grid.mask, (config.pad_token_id + 1) % 2, config.pad_token_id)
        way = self._inputs(batch, grid)

        def shaped(hidden: Tensor) -> Tensor:
            return grid.spread(hidden[0] if places is None else hidden[0].index_select(0, places), 0.0)

        with self._calling(inner, batch), rerouted(inner, way, shaped if self.packed else None):
            logits: Tensor = inner(input_ids=marks, attention_mask=grid.mask.long()).logits
        return logits

    def token_logits(self, batch: Batch) -> Tensor:
        """[N, C] logits of transformers' own token-classification head at the supervised tokens, in batch order."""
        inner = transformer_of(self.model)
        if backbone_of(inner) is inner or inner.get_output_embeddings() is not None:
            raise ModelError(f"{type(inner).__name__} has no token-classification head")
        parts = self._parts(inner, batch)
        if parts:
            return joined([part.supervised for part in parts], [self.token_logits(part.batch) for part in parts])
        logits, taken = self._at_tokens(inner, batch, batch.supervised.nonzero()[:, 0])
        return taken(logits)

    def span_logits(self, batch: Batch) -> Tensor:
        """[T, 2] logits of transformers' own question-answering head: of an answer's first token, and of its last."""
        inner = transformer_of(self.model)
        if not tells_spans(inner):
            raise ModelError(f"{type(inner).__name__} has no question-answering head")
        parts = self._parts(inner, batch)
        if parts:
            return joined([part.tokens for part in parts], [self.span_logits(part.batch) for part in parts])
        logits, taken = self._at_tokens(inner, batch, torch.arange(len(batch.ids), device=batch.ids.device))
        return taken(logits)

    def mask_logits(self, batch: Batch) -> Tensor:
        """[N, V] logits of a masked language model over its vocabulary at the supervised tokens, in batch order."""
        inner = transformer_of(self.model)
        head = inner.get_output_embeddings()
        if head is None or not _fills_masks(inner):
            raise ModelError(f"{type(inner).__name__} is no masked language model")
        parts = self._parts(inner, batch)
        if parts:
            return joined([part.supervised for part in parts], [self.mask_logits(part.batch) for part in parts])
        logits: Tensor = head(self._below_output(inner, head, batch, batch.supervised.nonzero()[:, 0]))
        return logits

    def hidden(self, batch: Batch) -> Tensor:
        """[T, H] below the head, at the tokens of the batch, in its order."""
        inner = transformer_of(self.model)
        parts = self._parts(inner, batch)
        if parts:
            return joined([part.tokens for part in parts], [self._hidden(inner, part.batch) for part in parts])
        return self._hidden(inner, batch)

    def vectors(self, batch: Batch) -> Tensor:
        """[S, H] float32 vectors of texts; of rows that branch [B, H], each with its beginning."""
        plain = batch if batch.branches is None else unshared(batch)[0]
        return pool(self.hidden(plain), plain.starts, self.pooling)

    def _seen(self, batch: Batch) -> Batch:
        """The batch as the model is shown it: branches share their beginning only where packs are, nothing in it sees
        what follows, and no prompt goes before each.
        """
        if batch.branches is None:
            return batch
        shares = self.packed and not has_prompt(self.model) and looks_back(self.model, self.pad)
        return batch if shares else unshared(batch)[0]

    def _parts(self, inner: PreTrainedModel, batch: Batch) -> list[Part]:
        """The parts that must go through the model apart; empty where the batch goes through as one."""
        limit = None if self.packed else frequency_limit(inner.config.get_text_config())
        return [] if limit is None else parts_of(batch, limit)

    def _told_from(self, inner: PreTrainedModel, head: nn.Module, batch: Batch, at: Tensor) -> Tensor | None:
        """[N, H] what the output layer reads to tell the tokens `at`; None where more than that makes the logits."""
        if batch.targets is not None:
            return self._below_output(inner, head, batch, at)
        return self._hidden(inner, batch).index_select(0, at - 1) if head_is_last(inner, self.pad) else None

    def _hidden(self, inner: PreTrainedModel, batch: Batch) -> Tensor:
        """[T, H] below the output layer, at the tokens of the batch."""
        grid = Grid.of(batch)
        with self._calling(inner, batch):
            hidden = hidden_states(inner, **self._inputs(batch, grid))
        return hidden[0] if self.packed else hidden.flatten(0, 1).index_select(0, grid.at)

    def _at_tokens(self, inner: PreTrainedModel, batch: Batch, at: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The logits of the model's own head, and what takes [N, ...] of the tokens `at` out of the head's states.

        Of a pack the head is given the hidden states of these tokens alone; of a padded batch, all.
        """
        grid = Grid.of(batch)
        inputs = self._inputs(batch, grid)
        chosen = (lambda hidden: hidden.index_select(1, at)) if self.packed else None
        places = None if self.packed else grid.at.index_select(0, at)

        def taken(states: Tensor) -> Tensor:
            return states[0] if places is None else states.flatten(0, 1).index_select(0, places)

        with self._calling(inner, batch), rerouted(inner, inputs, chosen):
            logits = said(inner(input_ids=inputs["input_ids"]))
        return logits, taken

    def _below_output(self, inner: PreTrainedModel, head: nn.Module, batch: Batch, at: Tensor) -> Tensor:
        """[N, H] what the output layer reads at the tokens `at`: the head before it (BERT's transform) has run.

        The layer itself is given no token meanwhile, so that it costs nothing and its logits never exist as a whole.
        """
        caught: list[Tensor] = []

        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
            caught.append(arguments[0])
            return (arguments[0][:, :0],)

        handle = head.register_forward_pre_hook(hook)
        try:
            _, taken = self._at_tokens(inner, batch, at)
        finally:
            handle.remove()
        if len(caught) != 1:
            raise ModelError(
                f"{type(inner).__name__} called its output layer {len(caught)} times, not once",
                expected="a masked language model whose output layer reads one state a token",
            )
        return taken(caught[0])

    def _logits_of_forward(self, inner: PreTrainedModel, batch: Batch, at: Tensor) -> Tensor:
        """For a model that does more between hidden states and logits than its output layer: its whole forward."""
        grid = Grid.of(batch)
        options: dict[str, Any] = {}
        keeps = self.packed and "logits_to_keep" in signature(inner.forward).parameters
        if keeps:
            options["logits_to_keep"] = at
        with self._calling(inner, batch):
            logits: Tensor = inner(**self._inputs(batch, grid), **options).logits.flatten(0, 1)
        return logits if keeps else logits.index_select(0, at if self.packed else grid.at.index_select(0, at))

    def _inputs(self, batch: Batch, grid: Grid) -> dict[str, Any]:
        refuse_rowless(int(batch.ids.max()), transformer_of(self.model).config)
        types: dict[str, Tensor] = {}
        if batch.types is not None and getattr(transformer_of(self.model).config, "type_vocab_size", 0) > 1:
            types["token_type_ids"] = batch.types[None] if self.packed else grid.spread(batch.types, 0)
        if self.offset is None:
            return {"input_ids": grid.spread(batch.ids, self.pad), "attention_mask": grid.mask.long()} | types
        inputs = {"input_ids": batch.ids[None], "position_ids": batch.positions[None] + self.offset} | types
        # Attention reads the boundaries' values in every layer: on the CPU that waits for nothing.
        if batch.branches is None:
            return inputs | {"cu_seq_lens_q": batch.starts.cpu()}
        shared = attended(batch)
        return inputs | {"cu_seq_lens_q": shared.starts, "cu_seq_lens_k": shared}

    def _embedded(self, inner: PreTrainedModel, batch: Batch) -> tuple[nn.Module, Tensor]:
        """What looks tokens up, and how many its row has for each, as the model is given them."""
        lengths = batch.starts.diff()
        each = lengths.index_select(0, sequence_index(batch.starts))[None] if self.packed else lengths[:, None]
        return inner.get_input_embeddings(), each

    @contextmanager
    def _calling(self, inner: PreTrainedModel, batch: Batch) -> Iterator[None]:
        with ExitStack() as stack:
            if self.packed:
                stack.enter_context(packed_call())
            if self.embedding_noise > 0 and self.model.training:
                layer, lengths = self._embedded(inner, batch)
                hook = layer.register_forward_hook(_noise(self.embedding_noise, lengths))
                stack.callback(hook.remove)
            yield


class _TwoSided(TwoSides, Role):
    """The role of an encoder-decoder."""


def models_for(
    objective: contracts.Objective, policy: contracts.Role, others: Mapping[str, contracts.Role] | None = None
) -> Models:
    """What the objective's loss is handed: the policy, others that it asks, and what it trains beside them."""
    models = Models(policy, others or {})
    return replace(models, own=objective.begin(models))


def _noise(alpha: float, lengths: Tensor) -> Any:
    def hook(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        reach = alpha / (lengths[..., None] * output.shape[-1]).to(output.dtype).sqrt()
        return output + torch.empty_like(output).uniform_(-1, 1) * reach

    return hook


def _output_layer(model: PreTrainedModel) -> nn.Module:
    head: nn.Module | None = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{type(model).__name__} has no output layer over the vocabulary")
    return head


def role_of(model: nn.Module, pad: int, pooling: Pooling | None = None) -> Role:
    """The model as a role, packed if a probe finds that it can be; `pad` is the token that fills rows otherwise.

    pooling: how vectors of texts are made; default: the mean of their tokens, at unit length.

    The probe runs once for each loaded model (a few forward passes over 18 tokens), adapted or not.
    """
    inner = transformer_of(model)
    fuse(inner)
    if inner.config.is_encoder_decoder:
        return _TwoSided(model, pad, None)
    pooling = pooling or Pooling()
    role = Role(model, pad, position_offset(model, pad), pooling=pooling)
    masked = _fills_masks(inner)
    if inner.get_output_embeddings() is not None and not masked:
        head_is_last(inner, pad)
    elif backbone_of(inner) is not inner and (role.packed or masked) and not head_agrees(inner, role, pad, role.packed):
        role = Role(model, pad, None, pooling=pooling)
        if masked and not head_agrees(inner, role, pad, False):
            raise ModelError(
                f"{type(inner).__name__} does more between its output layer and its logits than is known here",
                expected="a masked language model whose output layer comes last",
            )
    return role


def _fills_masks(model: PreTrainedModel) -> bool:
    """Whether it is a masked language model, which tells a token by what stands on both sides."""
    return AutoModelForMaskedLM._model_mapping.get(type(model.config), None) is type(model)
