"""A model's numbers in another dtype, each as transformers holds it when it loads the model in that dtype.

`model.to(dtype)` also casts what a model computes for itself and never stores: rotary frequencies in bfloat16 are wrong
by up to 2^-9 of their value, which is a phase of one radian at 500 tokens. transformers' `from_pretrained` leaves them
in float32, and so must whoever trains a model that is going to be loaded by it.
"""

from __future__ import annotations

import copy
import re
from itertools import chain

import torch
from transformers import PreTrainedModel

__all__ = ["cast", "dtypes_in"]


def cast(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The same model, changed in place to what `from_pretrained(dtype=dtype)` would hold of it."""
    wanted = dtypes_in(model, dtype)
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        tensor.data = tensor.data.to(wanted.get(name, tensor.dtype))
    model.config.dtype = dtype
    return model


def dtypes_in(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The dtype of every parameter and buffer when transformers loads the model in `dtype`.

    It is what the model's own code gives a tensor while `dtype` is the default, but float32 for stored weights that its
    class wants kept so.
    """
    with torch.device("meta"):
        made = type(model)._from_config(copy.deepcopy(model.config), dtype=dtype)
    found = {name: tensor.dtype for name, tensor in chain(made.named_parameters(), made.named_buffers())}
    kept = [re.compile(part.replace("*", ".*")) for part in made._get_dtype_plan(dtype)]
    stored = made.state_dict().keys()
    return {
        name: torch.float32 if name in stored and any(part.search(name) for part in kept) else own
        for name, own in found.items()
    }
