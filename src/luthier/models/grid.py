"""A pack as a padded grid, and a model's forward pass whose backbone is called another way than its head expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..core.contracts import Batch
from ..functional.packing import sequence_index
from .attention import backbone_of

__all__ = ["Grid", "rerouted"]


@dataclass(frozen=True)
class Grid:
    """Where the tokens of a pack lie when its sequences are padded at the end to one length.

    mask [S, L] bool: a token is there. at [T]: its place in the flattened grid.
    """

    mask: Tensor
    at: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Grid:
        """The grid of a batch, as wide as its longest sequence."""
        lengths = batch.starts.diff().long()
        width = int(lengths.max())
        mask = torch.arange(width, device=lengths.device) < lengths[:, None]
        return cls(mask, sequence_index(batch.starts) * width + batch.positions)

    def spread(self, x: Tensor, padding: float) -> Tensor:
        """[T, ...] -> [S, L, ...], `padding` where there is no token."""
        grid = x.new_full((self.mask.numel(), *x.shape[1:]), padding)
        return grid.index_copy(0, self.at, x).view(*self.mask.shape, *x.shape[1:])


@contextmanager
def rerouted(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], shaped: Callable[[Tensor], Tensor] | None
) -> Iterator[None]:
    """While this lasts, the model's backbone is called with `inputs`, and its hidden states come back as `shaped`."""
    given = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "inputs_embeds")
    backbone = backbone_of(model)

    def before(module: nn.Module, arguments: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        others = {name: value for name, value in options.items() if name not in given}
        if "use_cache" in signature(module.forward).parameters:
            others["use_cache"] = False
        return (), others | dict(inputs)

    def after(module: nn.Module, arguments: Any, options: Any, output: Any) -> Any:
        if shaped is not None:
            output.last_hidden_state = shaped(output.last_hidden_state)
            pooler = getattr(module, "pooler", None)
            if pooler is not None:
                output.pooler_output = pooler(output.last_hidden_state)
        return output

    handles = (
        backbone.register_forward_pre_hook(before, with_kwargs=True),
        backbone.register_forward_hook(after, with_kwargs=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
