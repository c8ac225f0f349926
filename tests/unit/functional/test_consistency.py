"""Losses of unlabeled rows against numbers worked out by hand and torch's own divergence, in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.core.contracts import Batch
from luthier.functional.consistency import pseudo_label_losses, sharpened_losses, squared_distances, terms, wide


def of(*rows: list[float]) -> Tensor:
    """Logits whose softmax is these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


SAID = of([0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.9, 0.05, 0.05])
LEARNS = of([0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1])


def test_what_is_learned_is_the_sharpened_prediction_of_the_rows_that_are_sure() -> None:
    """At temperature 1/2 probabilities are squared: 64 : 1 : 1 and 324 : 1 : 1."""
    losses, sure = sharpened_losses(LEARNS, SAID, 0.5, 0.75)
    assert sure.tolist() == [True, False, True]
    first = 64 / 66 * math.log((64 / 66) / 0.5) + 2 / 66 * math.log((1 / 66) / 0.25)
    third = 324 / 326 * math.log((324 / 326) / 0.1) + math.log((1 / 326) / 0.8) / 326 + math.log((1 / 326) / 0.1) / 326
    torch.testing.assert_close(losses, torch.tensor([first, 0, third], dtype=torch.float64))
    wanted = F.kl_div(LEARNS.log_softmax(-1), (SAID / 0.5).softmax(-1), reduction="none").sum(-1)
    torch.testing.assert_close(losses, wanted * sure)


def test_confidence_is_that_of_the_prediction_before_it_is_sharpened() -> None:
    assert sharpened_losses(LEARNS, SAID, 0.1, 0.75)[1].tolist() == [True, False, True]
    assert not bool(sharpened_losses(LEARNS[:1], of([0.75, 0.125, 0.125]), 0.4, 0.75)[1]), "more than it, not as much"


def test_a_pseudo_label_is_the_most_probable_class() -> None:
    losses, sure = pseudo_label_losses(LEARNS, SAID, 0.8)
    assert sure.tolist() == [True, False, True]
    torch.testing.assert_close(losses, torch.tensor([-math.log(0.5), 0, -math.log(0.1)], dtype=torch.float64))


def test_the_distance_to_a_teacher_is_that_of_probabilities() -> None:
    wanted = [0.3**2 + 2 * 0.15**2, 0.3**2 + 0.05**2 + 0.35**2, 0.8**2 + 0.75**2 + 0.05**2]
    torch.testing.assert_close(squared_distances(LEARNS, SAID), torch.tensor(wanted, dtype=torch.float64))
    certain = torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 100.0]])
    assert float(squared_distances(*certain)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "losses",
    [
        lambda logits, said: sharpened_losses(logits, said, 0.4, 0.0)[0],
        lambda logits, said: pseudo_label_losses(logits, said, 0.0)[0],
        squared_distances,
    ],
    ids=["sharpened", "pseudo", "squared"],
)
def test_nothing_is_learned_by_what_was_said(losses) -> None:
    logits, said = LEARNS.clone().requires_grad_(), SAID.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: losses(one, SAID), [logits])
    losses(logits, said).sum().backward()
    assert said.grad is None
    assert bool((logits.grad.abs().sum(-1) > 0).all())


def test_labeled_and_unlabeled_rows_are_summed_apart() -> None:
    labels = torch.tensor([1, -1, -1])
    nothing = torch.zeros(0, dtype=torch.int64)
    weights = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64)
    batch = Batch(nothing, nothing, nothing, nothing.bool(), ("a", "b", "c"), weights, fields={"label": labels})
    apart = torch.tensor([7.0, 1.0, 0.5], dtype=torch.float64)
    labeled, unlabeled = terms(batch, LEARNS, apart, labels < 0, 0.5, {"sure": apart > 0.6})
    torch.testing.assert_close(labeled.totals, torch.tensor([2 * math.log(4), 0, 0], dtype=torch.float64))
    assert unlabeled.totals.tolist() == [0, 1, 1.5]
    assert (unlabeled.weight, unlabeled.figures["sure"].tolist()) == (0.5, [0, 1, 0])
    assert terms(batch, LEARNS, apart, labels > 5, 1.0, {"sure": labels > 0})[1].figures == {}


def test_logits_are_computed_in_float32_at_least() -> None:
    kinds = {dtype: wide(torch.zeros(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float64)}
    assert kinds == {torch.bfloat16: torch.float32, torch.float64: torch.float64}
