"""AdamW and SGD against their equations, step by step in float64 by hand; Muon against torch's and a decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from luthier.core.component import build
from luthier.core.errors import RecipeError
from luthier.functional.orthogonal import orthogonalized
from luthier.optimizers.adamw import AdamW
from luthier.optimizers.muon import Muon
from luthier.optimizers.sgd import SGD

GRADIENTS = [np.array([0.3, -1.0, 2.0]), np.array([0.1, 0.5, -2.0]), np.array([-0.4, 0.2, 0.0])]
START = np.array([1.0, -2.0, 0.5])


def steps(optimizer, lr: float, decay: float) -> np.ndarray:
    """The weights after the steps with GRADIENTS."""
    weight = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    made = optimizer.make([{"params": [weight], "lr": lr, "weight_decay": decay}])
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        made.step()
    return weight.detach().numpy()


def test_adamw_is_algorithm_2():
    lr, decay, (b1, b2), eps = 0.1, 0.01, (0.8, 0.95), 1e-6
    w, m, v = START.copy(), np.zeros(3), np.zeros(3)
    for t, g in enumerate(GRADIENTS, 1):
        w = w - lr * decay * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w = w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    np.testing.assert_allclose(steps(AdamW(betas=(b1, b2), eps=eps), lr, decay), w, rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_momentum(nesterov):
    lr, decay, momentum = 0.1, 0.02, 0.9
    w, velocity = START.copy(), None
    for gradient in GRADIENTS:
        g = gradient + decay * w
        velocity = g if velocity is None else momentum * velocity + g
        w = w - lr * (g + momentum * velocity if nesterov else velocity)
    np.testing.assert_allclose(steps(SGD(momentum=momentum, nesterov=nesterov), lr, decay), w, rtol=1e-12)


def test_plain_sgd():
    np.testing.assert_allclose(steps(SGD(), 0.1, 0.0), START - 0.1 * sum(GRADIENTS), rtol=1e-12)


def test_the_first_step_of_adamw_has_the_size_of_the_rate():
    moved = steps(AdamW(), 0.01, 0.0) - START
    assert np.all(np.abs(moved) <= 0.03 + 1e-9)
    weight = torch.nn.Parameter(torch.zeros(2))
    made = AdamW().make([{"params": [weight], "lr": 0.01, "weight_decay": 0.0}])
    weight.grad = torch.tensor([1e-4, -50.0])
    made.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.01, 0.01]), rtol=2e-4, atol=0)


def test_both_are_fused():
    weight = torch.nn.Parameter(torch.zeros(2))
    for one in (AdamW(), SGD()):
        assert one.make([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}]).defaults["fused"] is True


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"sgd": {"nesterov": True}}, "nesterov needs a momentum"),
        ({"adamw": {"betas": [0.9, 1.0]}}, "less than 1"),
        ({"adamw": {"lr": math.inf}}, "finite"),
        ({"adamw": {"weight_decay": -0.1}}, "greater than or equal to 0"),
    ],
)
def test_wrong_parameters_are_refused(value, where):
    with pytest.raises(RecipeError, match=where):
        build("optimizers", value)


def moved(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """The weights after three steps with seeded gradients; the last weight has none in the second step."""
    draw = torch.Generator().manual_seed(3)
    for step in range(3):
        for place, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=draw)
            if step == 1 and place == len(weights) - 1:
                weight.grad = None
        optimizer.step()
    return [weight.detach() for weight in weights]


def fresh(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    draw = torch.Generator().manual_seed(4)
    return [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in shapes]


@pytest.mark.parametrize("nesterov", [True, False])
def test_hidden_matrices_move_as_under_torchs_muon(nesterov):
    shapes = ((6, 4), (4, 9), (5, 5))
    ours, theirs = fresh(*shapes), fresh(*shapes)
    made = Muon(momentum=0.9, nesterov=nesterov).make(
        [{"params": ours, "lr": 0.02, "weight_decay": 0.1, "hidden": frozenset(ours)}]
    )
    peer = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=nesterov, adjust_lr_fn="match_rms_adamw"
    )
    for mine, other in zip(moved(made, ours), moved(peer, theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_the_rest_moves_as_under_adamw():
    shapes = ((6, 4), (7,), (3, 8))
    ours, theirs = fresh(*shapes), fresh(*shapes)
    made = Muon(betas=(0.8, 0.9), eps=1e-6).make(
        [{"params": ours, "lr": 0.02, "weight_decay": 0.1, "hidden": frozenset(ours[:1])}]
    )
    peer = torch.optim.AdamW(theirs, lr=0.02, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-6, fused=True)
    mine, other = moved(made, ours), moved(peer, theirs)
    torch.testing.assert_close(mine[1:], other[1:], rtol=0, atol=0)
    assert not torch.allclose(mine[0], other[0], atol=1e-3)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_orthogonalized_turns_singular_values_toward_one_and_keeps_their_vectors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalized(matrix).float() @ v.T
    values = found.diagonal()
    # The source's band, with bf16's rounding; directions below a hundredth of the norm are still on their way.
    strong = s / s.norm() > 0.02
    assert strong.sum() > 10
    assert bool((values[strong] > 0.6).all() and (values[strong] < 1.3).all())
    assert float((found - torch.diag(values)).abs().max()) < 0.05


def test_what_counts_as_hidden():
    from luthier.models.groups import hidden_matrices
    from luthier.models.load import load_model

    model = load_model("embedded:nano", "causal_lm", device="cpu", seed=0).model
    hidden = hidden_matrices(model)
    named = dict(model.named_parameters())
    assert hidden
    assert all(named[name].ndim == 2 and ".layers." in name for name in hidden)
    assert sorted(set(named) - hidden) == sorted(
        name for name in named if "norm" in name or "embed" in name or "lm_head" in name
    )
