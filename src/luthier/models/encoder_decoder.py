"""Encoder-decoders behind a role's verbs: the encoder reads what a row begins with, the decoder writes its branches.

    row        [ prompt ... | start answer ... | start answer ... ]
    encoder    [S, Le] prompts, each read once, however many answers it has
    decoder    [B, Ld] answers, each told from what precedes it and from its own row's prompt

What stands in a row for `start` is not looked at: the model's own token takes its place. Both sides are padded at the
end; rows of like lengths go through together (functional/alike.py). Shapes otherwise: N supervised tokens, H wide, V
words of the vocabulary. Errors: ModelError for a verb that asks for the states of one text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ..core.contracts import Batch
from ..core.errors import ModelError
from ..functional.alike import alike, pass_cost
from .attention import probe_ids, still
from .output_layer import bending
from .rotary import Part, part_of
from .tokens import refuse_rowless

__all__ = ["TwoSides", "start_token"]


def start_token(model: Any) -> int:
    """The token that the decoder begins an answer with. Errors: ModelError where neither configuration says it."""
    settings = model.generation_config
    said = ((settings, "decoder_start"), (model.config, "decoder_start"), (settings, "bos"))
    found = next((token for of, name in said if (token := getattr(of, f"{name}_token_id", None)) is not None), None)
    if found is None:
        raise ModelError(
            f"{type(model).__name__} does not say which token an answer begins with",
            expected="decoder_start_token_id in generation_config.json or config.json",
            remedy="copy generation_config.json from the model that this one was made from",
        )
    return int(found)


@dataclass(frozen=True)
class _Sides:
    """Where prompts [S] and answers [B] begin in a batch, how long they are, and which row each answer is of.

    An answer's last token is told and not read: nothing follows from it.
    """

    prompts: Tensor
    prompt_lengths: Tensor
    answers: Tensor
    answer_lengths: Tensor
    rows: Tensor

    @classmethod
    def of(cls, batch: Batch) -> _Sides:
        assert batch.branches is not None, "rows without an answer for the decoder"
        rows, firsts = batch.branches.T.contiguous()
        new = torch.cat([rows[:1] >= 0, rows[1:] != rows[:-1]])
        following = torch.cat([firsts[1:], firsts[:0].new_zeros(1)])
        last = torch.cat([new[1:], new[:1]])
        starts = batch.starts.long()
        ends = torch.where(last, starts.index_select(0, rows + 1), following)
        return cls(starts[:-1], firsts[new] - starts[:-1], firsts, (ends - firsts - 1).clamp(min=1), rows)


def _padded(ids: Tensor, begins: Tensor, lengths: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """[n, longest] tokens from each begin on, padded at the end; and where there are any, as 1 and 0."""
    columns = torch.arange(int(lengths.max()), device=ids.device)
    there = columns < lengths[:, None]
    return ids[torch.where(there, begins[:, None] + columns, 0)].masked_fill(~there, pad), there.long()


class TwoSides:
    """What a role does otherwise where its model is an encoder-decoder; to be put before Role."""

    model: nn.Module
    pad: int
    _calling: Any  # Role's

    def hidden(self, batch: Batch) -> Tensor:
        """Errors: ModelError, always."""
        raise ModelError(
            f"{type(self.model).__name__} has states of two texts, what it reads and what it writes",
            expected="a decoder or an encoder, whose states are those of one",
            remedy="take the objective seq2seq",
        )

    def _seen(self, batch: Batch) -> Batch:
        """As it is: branches are what the decoder writes."""
        return batch

    def _parts(self, inner: PreTrainedModel, batch: Batch) -> list[Part]:
        """Rows of like lengths; empty where they go through as one."""
        sides = _Sides.of(batch)
        longest = torch.zeros_like(sides.prompts).scatter_reduce(0, sides.rows, sides.answer_lengths, "amax")
        counts = torch.bincount(sides.rows, minlength=batch.size)
        first, second, texts = (one.cpu().numpy() for one in (sides.prompt_lengths, longest, counts))
        groups = alike(first, second, texts, cost=pass_cost(batch.ids.device.type))
        if len(groups) < 2:
            return []
        return [part_of(batch, torch.from_numpy(group).to(batch.ids.device)) for group in groups]

    def _embedded(self, inner: PreTrainedModel, batch: Batch) -> tuple[nn.Module, Tensor]:
        """What the encoder looks tokens up in, and [S, 1] how many a prompt has."""
        table: nn.Module = inner.get_encoder().get_input_embeddings()
        return table, _Sides.of(batch).prompt_lengths[:, None]

    def _told_from(self, inner: PreTrainedModel, head: nn.Module, batch: Batch, at: Tensor) -> Tensor | None:
        """[N, H] what the output layer reads to tell the tokens `at`; None where more than that makes the logits.

        The layer is given no token meanwhile, so that it costs nothing.
        """
        if not _output_is_last(inner, head, self.pad):
            return None
        with _heard(head, lambda states: states[:, :0]) as caught:
            self._forward(inner, batch)
        return caught[0].flatten(0, 1).index_select(0, _places(batch, at - 1))

    def _logits_of_forward(self, inner: PreTrainedModel, batch: Batch, at: Tensor) -> Tensor:
        """[N, V] what the model says after the tokens `at`, by its whole forward pass."""
        return self._forward(inner, batch).flatten(0, 1).index_select(0, _places(batch, at))

    def _forward(self, inner: PreTrainedModel, batch: Batch) -> Tensor:
        """[B, Ld, V] logits at the answers' tokens (fewer, where the output layer is given fewer)."""
        refuse_rowless(int(batch.ids.max()), inner.config)
        sides = _Sides.of(batch)
        prompts, seen = _padded(batch.ids, sides.prompts, sides.prompt_lengths, self.pad)
        answers, written = _padded(batch.ids, sides.answers, sides.answer_lengths, self.pad)
        answers[:, 0] = start_token(inner)
        with self._calling(inner, batch):
            read = inner.get_encoder()(input_ids=prompts, attention_mask=seen).last_hidden_state
        if len(answers) > len(prompts):
            read, seen = read.index_select(0, sides.rows), seen.index_select(0, sides.rows)
        logits: Tensor = inner(
            encoder_outputs=BaseModelOutput(last_hidden_state=read),
            attention_mask=seen,
            decoder_input_ids=answers,
            decoder_attention_mask=written,
            use_cache=False,
        ).logits
        return logits


def _places(batch: Batch, at: Tensor) -> Tensor:
    """[N] where the tokens `at`, each of an answer and none its last, lie in the flattened grid of answers."""
    sides = _Sides.of(batch)
    answer = torch.searchsorted(sides.answers, at, right=True) - 1
    return answer * int(sides.answer_lengths.max()) + at - sides.answers.index_select(0, answer)


@contextmanager
def _heard(head: nn.Module, given: Any) -> Iterator[list[Tensor]]:
    """Takes what comes to the output layer, which is given `given` of it in its place."""
    caught: list[Tensor] = []

    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        caught.append(arguments[0])
        return (given(arguments[0]),)

    handle = head.register_forward_pre_hook(hook)
    try:
        yield caught
    finally:
        handle.remove()


_last: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _output_is_last(model: PreTrainedModel, head: nn.Module, pad: int) -> bool:
    """Whether the output layer and the known bending make the logits of what it reads; measured once per model."""
    if model not in _last:
        prompt, answer, _ = probe_ids(model, pad)
        softcap, scale = bending(model)
        with still(model):
            with _heard(head, lambda states: states) as caught:
                wanted = model(input_ids=prompt[None], decoder_input_ids=answer[None]).logits.float()
            found = head(caught[0]).float() if len(caught) == 1 else torch.full_like(wanted, torch.inf)
            found = found if scale is None else found * scale
            found = found if softcap is None else torch.tanh(found / softcap) * softcap
        reduced = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
        _last[model] = bool((found - wanted).norm() <= (2e-2 if reduced else 1e-5) * wanted.norm())
    return _last[model]
