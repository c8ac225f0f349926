"""How far what a model says of one view of a text is from what was said of another, for texts without a class.

Shapes: S rows, C classes. Units: nats, but for the squared distance. What was said (logits) is a target: no gradient
goes there. Computed in float32 at least.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.contracts import Batch, Term
from .distillation import divergence

__all__ = ["pseudo_label_losses", "sharpened_losses", "squared_distances", "terms", "wide"]


def sharpened_losses(logits: Tensor, said: Tensor, temperature: float, confidence: float) -> tuple[Tensor, Tensor]:
    """[S] KL(softmax(said / temperature) || softmax(logits)), 0 where it is not sure; and [S] whether it is.

    Sure is what was said with a probability of more than `confidence`, before it was sharpened. UDA: Xie et al. 2020
    (arXiv:1904.12848), section 2.2 and 2.4.
    """
    sure = said.softmax(-1).amax(-1) > confidence
    apart = divergence(logits.log_softmax(-1), (said / temperature).log_softmax(-1), "forward_kl")
    return apart * sure, sure


def pseudo_label_losses(logits: Tensor, said: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """[S] cross-entropy with the most probable class of what was said, 0 where it is not sure; and [S] whether it is.

    Sure is a probability of at least `confidence`. FixMatch: Sohn et al. 2020 (arXiv:2001.07685), eq. 4.
    """
    probable, label = said.softmax(-1).max(-1)
    sure = probable >= confidence
    return F.cross_entropy(logits, label, reduction="none") * sure, sure


def squared_distances(logits: Tensor, said: Tensor) -> Tensor:
    """[S] sum over classes of (softmax(logits) - softmax(said))^2, between 0 and 2.

    Tarvainen and Valpola 2017 (arXiv:1703.01780), section 2.
    """
    return (logits.softmax(-1) - said.detach().softmax(-1)).square().sum(-1)


def terms(
    batch: Batch, logits: Tensor, apart: Tensor, among: Tensor, weight: float, figures: Mapping[str, Tensor]
) -> list[Term]:
    """The labeled rows' cross-entropy and, weighed, what `apart` [S] says of the rows `among` [S] (bool).

    figures: [S], told of these rows where there are any. Labels are -1 where there is none.
    """
    labels, counted = batch.fields["label"], among * batch.weights
    told = {name: value * counted for name, value in figures.items()} if bool(among.any()) else {}
    return [
        Term("cross_entropy", F.cross_entropy(logits, labels, ignore_index=-1, reduction="none") * batch.weights),
        Term("consistency", apart * counted, weight=weight, figures=told),
    ]


def wide(logits: Tensor) -> Tensor:
    """The logits in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
