"""Whether a model's own head, called through the verbs of a role, gives what the model itself gives: measured."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, PreTrainedModel

from ..core.contracts import Batch, Role
from ..functional.logprobs import logps_of_logits
from .attention import REFUSALS, probe_ids, still
from .grid import Grid

__all__ = ["head_agrees", "said", "tells_spans"]

_agrees: WeakKeyDictionary[nn.Module, dict[bool, bool]] = WeakKeyDictionary()


def head_agrees(model: PreTrainedModel, role: Role, pad: int, packed: bool) -> bool:
    """Whether the role's verb for the model's head gives what the model gives for a batch padded with the token `pad`;
    measured once per model, packed and padded.
    """
    known = _agrees.setdefault(model, {})
    if packed not in known:
        batch = _probe_batch(model, pad)
        grid = Grid.of(batch)
        with still(model):
            padded = {"input_ids": grid.spread(batch.ids, pad), "attention_mask": grid.mask.long()}
            wanted = said(model(**padded)).float()
            try:
                if model.get_output_embeddings() is not None:
                    found = role.logps(batch)
                    at = grid.at[batch.supervised]
                    wanted = logps_of_logits(wanted.flatten(0, 1)[at], batch.ids[batch.supervised])
                elif wanted.dim() == 3:
                    marked = batch.supervised
                    spans = tells_spans(model)
                    found = (role.span_logits(batch)[marked] if spans else role.token_logits(batch)).float()
                    wanted = wanted.flatten(0, 1)[grid.at[batch.supervised]]
                else:
                    found = role.class_logits(batch).float()
            except REFUSALS:
                found = torch.full_like(wanted, float("inf"))
        reduced = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
        # A few small logits round coarsely; a head that reads the wrong token is off by as much as they are large.
        tolerance = (2e-1 if reduced else 1e-4) * float(wanted.norm())
        known[packed] = found.shape == wanted.shape and float((found - wanted).norm()) <= tolerance
    return known[packed]


def tells_spans(model: PreTrainedModel) -> bool:
    """Whether its head tells where in a text an answer begins and ends."""
    return AutoModelForQuestionAnswering._model_mapping.get(type(model.config), None) is type(model)


def said(output: Any) -> Tensor:
    """The logits of a head's output; of a question-answering head both, beside each other in the last dimension."""
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    logits: Tensor = output.logits
    return logits


def _probe_batch(model: PreTrainedModel, pad: int) -> Batch:
    """Six sequences of ordinary tokens, of which all but the first of each are supervised, each its own target.

    A single number of each can be near zero by chance, and is then mostly rounding: not for all of them.
    """
    found = probe_ids(model, pad)
    sequences = [*found, *(ids.flip(0) for ids in found)]
    lengths = torch.tensor([len(ids) for ids in sequences])
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    ids = torch.cat(sequences)
    positions = torch.cat([torch.arange(int(length)) for length in lengths])
    names = tuple(map(str, range(len(sequences))))
    batch = Batch(ids, starts, positions, positions > 0, names, torch.ones(len(names)), targets=ids)
    return batch.to(ids.device)
