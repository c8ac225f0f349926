"""A row's gradient as a short vector: what a step on it alone would do to a fresh LoRA, projected at random.

Of a linear layer with inputs x [T, in] and gradients g [T, out] of its outputs, the vector holds (g P)^T (x A) [r, r]
with fixed Gaussian A [in, r] and P [out, r]: A is LoRA's first factor, so that g^T (x A) is the gradient of its second
one at the start, where that is zero; P makes it short. Inner products of such vectors estimate those of whole
gradients. Sources: Xia et al. 2024, LESS (arXiv:2402.04333), section 4; Choe et al. 2024, LoGra (arXiv:2405.13954).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..core.contracts import Row

__all__ = ["Gradients"]

_TOKENS = 2048
"""Tokens in one pass, filling included."""


class Gradients:
    """Gradient vectors of rows under a causal language model; the model's weights stay as they are.

    All linear layers but the output layer take part. rank: r; a vector has r * r numbers for each layer.
    The model is changed: its parameters take no gradients from here on.
    """

    def __init__(self, model: Any, *, rank: int = 8, seed: int = 1) -> None:
        self.model = model
        model.requires_grad_(False)
        output = model.get_output_embeddings()
        self.layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not output
        }
        self.projections = {name: _projections(name, layer, rank, seed) for name, layer in self.layers.items()}

    def of(self, rows: Sequence[Sequence[Row]]) -> NDArray[np.float32]:
        """[n, width] for n rows, each encoded as any number of sequences: the gradients of their mean losses.

        A loss is the mean over a row's supervised tokens; zeros where there is none.
        """
        learned = [sum(int(part.supervised.sum()) for part in parts) for parts in rows]
        owned = [(owner, part) for owner, parts in enumerate(rows) if learned[owner] for part in parts]
        # Sequences of like lengths together: a shorter one is filled up, which those before the end never see.
        owned.sort(key=lambda one: -len(one[1].ids))
        found = np.zeros((len(rows), sum(p.shape[1] * a.shape[1] for a, p in self.projections.values())), np.float32)
        while owned:
            size = max(1, _TOKENS // len(owned[0][1].ids))
            together, owned = owned[:size], owned[size:]
            vectors = self._together([part for _, part in together])
            for (owner, _), vector in zip(together, vectors, strict=True):
                found[owner] += vector / learned[owner]
        return found

    def _together(self, parts: Sequence[Row]) -> NDArray[np.float32]:
        """[B, width] of each sequence the gradient of the sum of its losses, in one pass."""
        longest = max(len(part.ids) for part in parts)
        ids = torch.zeros((len(parts), longest), dtype=torch.int64)
        learned = torch.zeros((len(parts), longest), dtype=torch.bool)
        for number, part in enumerate(parts):
            ids[number, : len(part.ids)] = torch.from_numpy(part.ids)
            learned[number, : len(part.ids)] = torch.from_numpy(part.supervised)
        found: dict[str, Tensor] = {}
        hooks = [layer.register_forward_hook(self._seen(name, found)) for name, layer in self.layers.items()]
        # Something has to ask for gradients, or nothing would be remembered on the way.
        hooks.append(self.model.get_input_embeddings().register_forward_hook(_asks))
        try:
            logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1]
            chosen = learned[:, 1:]
            loss = cross_entropy(logits[chosen].float(), ids[:, 1:][chosen], reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
        finally:
            for hook in hooks:
                hook.remove()
        return np.concatenate([found[name].flatten(1).numpy() for name in self.layers], axis=1)

    def _seen(self, name: str, found: dict[str, Tensor]) -> Callable[..., None]:
        first, second = self.projections[name]

        def forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            reduced = inputs[0].detach().float() @ first

            def backward(gradient: Tensor) -> None:
                found[name] = (gradient.float() @ second).transpose(1, 2) @ reduced

            output.register_hook(backward)  # type: ignore[no-untyped-call]

        return forward


def _projections(name: str, layer: nn.Linear, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """A [in, r] and P [out, r] of a layer, drawn from its name and the seed; lengths are kept on average."""
    draw = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
    first = torch.randn(layer.in_features, rank, generator=draw) / rank**0.5
    return first, torch.randn(layer.out_features, rank, generator=draw) / rank**0.5


def _asks(_: nn.Module, __: Any, output: Tensor) -> Tensor:
    return output.detach().requires_grad_(True)
