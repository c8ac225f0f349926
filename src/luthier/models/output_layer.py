"""What a language model does between its hidden states and its logits: its output layer, a factor, a soft cap."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from .attention import hidden_states, probe_ids, still

__all__ = ["bending", "head_is_last"]


def bending(model: PreTrainedModel) -> tuple[float | None, float | None]:
    """What the model does to its logits: a soft cap (Gemma 2), a factor (Cohere multiplies, Granite divides)."""
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)
    return softcap, scale if scale is not None else 1 / divisor if divisor else None


_last: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def head_is_last(model: PreTrainedModel, pad: int) -> bool:
    """Whether output layer and known bending, on hidden states, are the model's logits; measured once per model."""
    if model not in _last:
        ids = probe_ids(model, pad)[0][None]
        softcap, scale = bending(model)
        with still(model):
            wanted = model(input_ids=ids).logits.float()
            found = model.get_output_embeddings()(hidden_states(model, input_ids=ids)).float()
            if scale is not None:
                found = found * scale
            if softcap is not None:
                found = torch.tanh(found / softcap) * softcap
        reduced = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
        _last[model] = bool(
            found.shape == wanted.shape and (found - wanted).norm() <= (2e-2 if reduced else 1e-5) * wanted.norm()
        )
    return _last[model]
