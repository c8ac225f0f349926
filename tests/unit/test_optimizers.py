"""AdamW and SGD against their equations, step by step in float64 by hand, and against torch's plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from luthier.core.component import build
from luthier.core.errors import RecipeError
from luthier.optimizers.adamw import AdamW
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
