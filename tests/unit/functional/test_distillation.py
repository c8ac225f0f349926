"""Distances between distributions, by hand, exact where nothing is left out, and never more than the whole ones."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from torch.nn import functional as F

from luthier.functional.distillation import (
    Divergence,
    States,
    class_divergence,
    divergence,
    shortlist,
    shortlisted,
    state_distance,
)

KINDS = get_args(Divergence)


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_outcomes_by_hand() -> None:
    teacher, student = torch.tensor([0.75, 0.25]).double().log(), torch.tensor([0.5, 0.5]).double().log()
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    middle = 0.5 * (0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)) + 0.5 * (
        0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)
    )
    for kind, wanted in (("forward_kl", forward), ("reverse_kl", reverse), ("jensen_shannon", middle)):
        found: Any = divergence(student, teacher, kind)  # type: ignore[arg-type]
        assert float(found) == pytest.approx(wanted, rel=1e-12)
        same: Any = divergence(teacher, teacher, kind)  # type: ignore[arg-type]
        assert float(same) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_formula(kind: Divergence) -> None:
    def loss(student: torch.Tensor) -> torch.Tensor:
        return divergence(student.log_softmax(-1), logits(1, 3, 5).log_softmax(-1), kind)

    assert torch.autograd.gradcheck(loss, (logits(2, 3, 5).requires_grad_(),))


@pytest.mark.parametrize("kind", KINDS)
def test_a_shortlist_of_all_is_exact_and_a_shorter_one_never_more(kind: Divergence) -> None:
    """Coarsening two distributions alike never takes them farther apart, and longer lists come nearer."""
    teacher, student = logits(3, 40, 30), logits(4, 40, 30)
    whole = divergence((student / 1.7).log_softmax(-1), (teacher / 1.7).log_softmax(-1), kind)
    before = torch.zeros(40).double()
    for count in (1, 4, 16, 29, 30, 99):
        ids, kept = shortlist(teacher, count, 1.7)
        assert ids.shape == (40, min(count, 30))
        assert kept.shape == (40, min(count + 1, 30))
        torch.testing.assert_close(kept.exp().sum(-1), torch.ones(40), rtol=0, atol=1e-6)
        found = divergence(shortlisted(student, ids, 1.7), kept.double(), kind)
        assert (found <= whole + 1e-6).all()
        assert (found >= before - 1e-6).all()
        before = found
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)


def test_the_others_are_one_outcome_with_a_gradient() -> None:
    """By hand: of three outcomes one is listed, and the other two count together."""
    student = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    found = shortlisted(student, torch.tensor([[2]]), 1.0)
    chances = student.detach().softmax(-1)[0]
    assert found[0].exp().tolist() == pytest.approx([float(chances[2]), float(chances[0] + chances[1])])
    (slope,) = torch.autograd.grad(found[0, 1], student)
    inside = student.detach()[0, :2].softmax(-1)
    wanted = torch.cat([inside, inside.new_zeros(1)]) - chances
    torch.testing.assert_close(slope[0], wanted)


def test_several_classes_are_each_a_distribution_of_their_own() -> None:
    teacher, student = logits(5, 4, 3), logits(6, 4, 3)
    chance = torch.sigmoid(teacher / 2)
    soft = F.binary_cross_entropy_with_logits(student / 2, chance, reduction="none")
    own = F.binary_cross_entropy_with_logits(teacher / 2, chance, reduction="none")
    found = class_divergence(student, teacher, "forward_kl", 2.0, several=True)
    torch.testing.assert_close(found, (soft - own).sum(-1))


def test_the_generalized_distance_by_hand_and_near_its_ends() -> None:
    """Agarwal et al. 2024, eq. 1, where the mixture has beta of the teacher."""
    teacher, student = torch.tensor([0.75, 0.25]).double(), torch.tensor([0.5, 0.5]).double()
    middle = 0.2 * teacher + 0.8 * student
    wanted = 0.2 * (teacher * (teacher / middle).log()).sum() + 0.8 * (student * (student / middle).log()).sum()
    found = divergence(student.log(), teacher.log(), "jensen_shannon", 0.2)
    torch.testing.assert_close(found, wanted)
    for beta, kind, share in ((1e-6, "forward_kl", 1e-6), (1 - 1e-6, "reverse_kl", 1e-6)):
        whole: Any = divergence(student.log(), teacher.log(), kind)  # type: ignore[arg-type]
        found = divergence(student.log(), teacher.log(), "jensen_shannon", beta)
        assert float(found) / share == pytest.approx(float(whole), rel=1e-4)


def test_states_are_apart_by_their_squares_or_their_angle() -> None:
    student, teacher = torch.tensor([[3.0, 4.0], [0.0, 2.0]]).double(), torch.tensor([[0.0, 1.0], [0.0, 5.0]]).double()
    assert state_distance(student, teacher, "squared").tolist() == pytest.approx([9.0, 4.5])
    assert state_distance(student, teacher, "cosine").tolist() == pytest.approx([0.2, 0.0])
    half = state_distance(student.bfloat16(), teacher.bfloat16(), "squared")
    assert half.dtype == torch.float32
    for kind in get_args(States):

        def loss(states: torch.Tensor, kind: States = kind) -> torch.Tensor:
            return state_distance(states, logits(1, 3, 5), kind)

        assert torch.autograd.gradcheck(loss, (logits(2, 3, 5).requires_grad_(),))
