"""Spans of two tokenizations, their probabilities and ranks: by hand, and never more than whole distributions say."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from luthier.functional.aligned import FIRST, INSIDE, OUTSIDE, ranked, ranks_apart, span_divergence, span_sums, spans
from luthier.functional.distillation import Divergence

F, I, O = FIRST, INSIDE, OUTSIDE  # noqa: E741


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ([3, 7, 10], [2, 3, 10], ([F, F, I], [F, I, F])),
        ([1, 2, 3], [1, 2, 3], ([F, F, F], [F, F, F])),
        ([3, 7, 10], [2, 3, 9], ([F, O, O], [F, I, O])),
        ([None, 1, 4], [1, 4], ([F, I, F], [F, F])),  # a character of two tokens
        ([2, 2, 5], [2, 5], ([F, F, I], [F, F])),  # a token that spells nothing
        ([4, 9], [5, 8], ([O, O], [O, O])),
        ([None, None], [], ([O, O], [])),
    ],
)
def test_spans_lie_between_common_ends(first, second, wanted) -> None:
    assert spans(first, second) == wanted
    assert spans(second, first) == wanted[::-1]


def test_the_probability_of_a_span_is_the_product_of_its_tokens() -> None:
    chances = torch.tensor([0.5, 0.25, 0.9, 0.1, 0.2], dtype=torch.float64, requires_grad=True)
    found = span_sums(chances.log(), torch.tensor([F, I, O, F, F], dtype=torch.int8))
    torch.testing.assert_close(found.exp(), torch.tensor([0.125, 0.1, 0.2], dtype=torch.float64))
    found.sum().backward()
    assert chances.grad is not None
    assert chances.grad.tolist() == pytest.approx([2, 4, 0, 10, 5])
    assert span_sums(torch.zeros(0), torch.zeros(0, dtype=torch.int8)).shape == (0,)


def test_spans_are_two_outcomes_this_text_and_any_other() -> None:
    teacher, student = torch.tensor([[0.64], [0.25]], dtype=torch.float64).log()
    found = span_divergence(student, teacher, "forward_kl", 0.5, 1.0)
    assert float(found) == pytest.approx(0.64 * math.log(0.64 / 0.25) + 0.36 * math.log(0.36 / 0.75), rel=1e-12)
    found = span_divergence(student, teacher, "forward_kl", 0.5, 2.0)  # their roots: 0.8 and 0.5
    assert float(found) == pytest.approx(0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5), rel=1e-12)


@pytest.mark.parametrize("kind", get_args(Divergence))
def test_spans_that_are_sure_or_hopeless_stay_finite(kind: Divergence) -> None:
    given = torch.tensor([0.0, -1e-9, -1e-3, -5.0, -80.0])
    student = given.flip(0).requires_grad_()
    found = span_divergence(student, given, kind, 0.3, 1.0)
    assert bool(found.isfinite().all())
    assert float(found[2].detach()) == pytest.approx(0, abs=1e-7)
    found.sum().backward()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())

    def loss(logps: torch.Tensor) -> torch.Tensor:
        return span_divergence(logps, torch.tensor([-0.5, -2.0]).double(), kind, 0.3, 1.5)

    assert torch.autograd.gradcheck(loss, (torch.tensor([-1.0, -0.2]).double().requires_grad_(),))


def test_ranks_are_compared_as_sorted_and_fewer_say_less() -> None:
    teacher, student = logits(1, 20, 30), logits(2, 20, 25)
    sorted_teacher, sorted_student = (x.softmax(-1).sort(-1, descending=True).values for x in (teacher, student))
    whole = (torch.nn.functional.pad(sorted_student, (0, 5)) - sorted_teacher).abs().sum(-1)
    before = torch.zeros(20).double()
    for count in (1, 5, 20, 30, 40):
        found = ranks_apart(ranked(student, count, 1.0), ranked(teacher, count, 1.0))
        assert ranked(student, count, 1.0).shape == (20, count + 1)
        assert (found >= before - 1e-12).all()
        assert (found <= whole + 1e-12).all()
        before = found
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(ranked(student, 25, 2.0)[:, :25], (student / 2).softmax(-1).sort(-1, True).values)
