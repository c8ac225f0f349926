"""A value head: what is still to be expected, read from the states of a language model."""

from __future__ import annotations

from torch import nn

from .attention import transformer_of

__all__ = ["value_head"]


def value_head(model: nn.Module) -> nn.Linear:
    """[N, H] -> [N, 1] for the states that the model's output layer reads; float32, on the model's device, 0 at first.

    At 0 nothing is expected of any state, and the head alone is learned by the first step: the states that it reads
    feel it from the second on.
    """
    output = transformer_of(model).get_output_embeddings()
    head = nn.Linear(int(output.weight.shape[-1]), 1, device=output.weight.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head
