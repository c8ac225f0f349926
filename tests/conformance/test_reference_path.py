"""The fast path gives the reference path's loss and gradients, for whatever the catalog composes.

Fast: packed, with the modules of models/fused.py and the output layer in chunks, as the engine trains. Reference: each
row alone and padded, through transformers' and PEFT's own modules, whole logits, plain cross-entropy. An objective or
adaptation is tried by being in its room: the reference answers the verbs of a role, and nothing here names a component.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conformance.compositions import Composition, defaults
from conformance.world import KINDS, Task, settings
from torch import Tensor, nn
from torch.nn import functional as F

from luthier.core.contracts import Batch
from luthier.engine.step import accumulate
from luthier.functional import logprobs
from luthier.functional.branches import unshared
from luthier.models import fused
from luthier.models.cast import cast
from luthier.models.load import Loaded
from luthier.models.roles import Models, role_of

FLOAT32 = 3e-6
"""Share of the reference's loss, and of its gradient as one vector, that rounding may take; 6e-7 was measured."""
BFLOAT16_LOSS, BFLOAT16 = 0.004, 0.04
"""The same shares in bf16, against the float32 reference: 2^-8 is half a unit in the last place, of which gradients
gather some. 0.0012 and 0.020 were measured."""
WORSE = 1.25
"""Times the distance of the reference path in bf16 from float32: the fast one must not stray farther.
1.13 was measured."""
UNSETTLED = ("masked_lm", "tag")
"""Objectives of which some compositions stray farther in bf16 (2.2 times at most, by a hundredth of the gradient): the
losses and float32 agree, and what rounds in another place has not been found."""
DRAWS = 3
"""Sets of weights over which these distances are added up: both paths round, in another order, so that for a single set
the ratio scatters from 0.7 to 1.4."""


def cases() -> list[Composition]:
    """What composes: every objective with every adaptation on every model, each in its defaults and its example.

    An example of one goes with the defaults of the other.
    """
    objectives, adaptations = defaults("objectives"), defaults("adaptations")
    every = [
        Composition(objective, adaptation, kind)
        for kind in KINDS
        for _, objective in settings("objectives")
        for _, adaptation in settings("adaptations")
        if objective in objectives or adaptation in adaptations
    ]
    return [one for one in every if one.refusal() is None]  # docs/compositions.md has the reasons


def plain(batch: Batch) -> Batch:
    """Each branch behind its own copy of what it shares (tests/unit/functional/test_branches.py)."""
    return batch if batch.branches is None else unshared(batch)[0]


@dataclass
class PlainRole:
    """The verbs of a role by a model's own forward: one row after another, padded at the end, whole logits."""

    model: nn.Module
    pad: int

    def _logits(self, batch: Batch, row: int) -> Tensor:
        """What the model says of one row: [L, V] at its tokens, or [1, C]."""
        low, high = batch.starts[row : row + 2].tolist()
        ids = F.pad(batch.ids[low:high], (0, 3), value=self.pad)
        mask = torch.arange(len(ids)) < high - low
        logits: Tensor = self.model(input_ids=ids[None], attention_mask=mask.long()[None]).logits
        return logits[0, : high - low].float() if logits.dim() == 3 else logits.float()

    def logps(self, batch: Batch, smoothing: float = 0.0, *, alike: bool = False) -> Tensor:
        batch = plain(batch)
        found = []
        for row in range(batch.size):
            low, high = batch.starts[row : row + 2].tolist()
            marks, ids = batch.supervised[low:high], batch.ids[low:high]
            if batch.targets is None:
                logits, targets = self._logits(batch, row)[:-1][marks[1:]], ids[marks]
            else:
                logits, targets = self._logits(batch, row)[marks], batch.targets[low:high][marks]
            found.append(-F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing))
        return torch.cat(found)

    def token_logits(self, batch: Batch) -> Tensor:
        cuts = batch.starts.tolist()
        marks = [batch.supervised[low:high] for low, high in itertools.pairwise(cuts)]
        return torch.cat([self._logits(batch, row)[chosen] for row, chosen in enumerate(marks)])

    def class_logits(self, batch: Batch) -> Tensor:
        batch = plain(batch)
        return torch.cat([self._logits(batch, row) for row in range(batch.size)])


@contextmanager
def unfused() -> Iterator[None]:
    """While this lasts, nothing of models/fused.py is put into a model."""
    with pytest.MonkeyPatch.context() as patch:
        for name in fused.__all__:
            patch.setattr(fused, name, lambda model: model)
        yield


def adapted(one: Composition, task: Task, dtype: torch.dtype, draw: int) -> tuple[Loaded, nn.Module]:
    """The adapted model in eval mode, all that ever trains unfrozen, with weights that leave nothing at zero.

    They are multiples of what bf16 holds: the same numbers in either dtype, so that arithmetic alone can differ. Each
    `draw` is another set of them.
    """
    loaded = one.load(task)
    torch.manual_seed(draw)  # adapters begin in random numbers
    model = one.adaptation.apply(cast(loaded.model, dtype)).eval()
    one.adaptation.at(1.0, model)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(1000 * draw + number)
            noise = 0.06 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_((parameter.float() + noise).bfloat16())
    return loaded, model


def measured(one: Composition, task: Task, models: Any, cuts: list[list[int]]) -> tuple[float, dict[str, Tensor]]:
    """The step's loss, and the gradient of each parameter."""
    loss = accumulate(task.objective, (), models, [task.batch(*cut) for cut in cuts]).loss
    named = models.policy.model.named_parameters()
    return loss, {name: parameter.grad.float() for name, parameter in named if parameter.grad is not None}


def fast(
    one: Composition, task: Task, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, draw: int = 0
) -> tuple[float, dict[str, Tensor]]:
    """By the engine's own path: packs of several rows."""
    loaded, model = adapted(one, task, dtype, draw)
    role = role_of(model, loaded.tokenizer.pad_token_id)
    assert role.packed
    rows = list(range(len(task.rows)))
    monkeypatch.setattr(logprobs, "CHUNK", 2000)  # of 400 pieces: five positions at a time
    return measured(one, task, Models(role), [rows[:4], rows[4:]])


def reference(one: Composition, task: Task, dtype: torch.dtype, draw: int = 0) -> tuple[float, dict[str, Tensor]]:
    """By the reference path, a row at a time."""
    with unfused():
        loaded, model = adapted(one, task, dtype, draw)
        for module in model.modules():
            own = getattr(sys.modules[type(module).__module__], type(module).__name__)
            assert type(module) is own, f"{type(module).__name__} is not the class of that name"
            assert type(module).__module__ != fused.__name__
        assert loaded.model.config._attn_implementation in ("sdpa", "eager")
        models = Models(PlainRole(model, loaded.tokenizer.pad_token_id))
        return measured(one, task, models, [[row] for row in range(len(task.rows))])


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Of all gradients as one vector, as a share of the wanted one's length."""
    assert found.keys() == wanted.keys()
    apart = torch.stack([(found[name] - value).norm() for name, value in wanted.items()]).norm()
    return float(apart / torch.stack([value.norm() for value in wanted.values()]).norm())


@pytest.mark.parametrize("one", [pytest.param(one, id=f"{number}-{one}") for number, one in enumerate(cases())])
def test_the_fast_path_gives_the_loss_and_gradients_of_the_reference_path(
    one: Composition, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = one.task()
    loss, exact = reference(one, task, torch.float32)
    largest = max(float(gradient.norm()) for gradient in exact.values())
    assert largest > 0

    found_loss, found = fast(one, task, torch.float32, monkeypatch)
    assert found_loss == pytest.approx(loss, rel=FLOAT32)
    assert distance(found, exact) <= FLOAT32
    for name, gradient in exact.items():
        # Some are zero but for rounding, as that of a key's bias, which softmax does not feel.
        reach = max(float(gradient.norm()), largest / 100)
        assert float((found[name] - gradient).norm()) <= FLOAT32 * reach, name

    ours, theirs = [], []
    for draw in range(DRAWS):
        wanted_loss, wanted = reference(one, task, torch.float32, draw) if draw else (loss, exact)
        half_loss, half = fast(one, task, torch.bfloat16, monkeypatch, draw)
        assert half_loss == pytest.approx(wanted_loss, rel=BFLOAT16_LOSS)
        ours.append(distance(half, wanted))
        theirs.append(distance(reference(one, task, torch.bfloat16, draw)[1], wanted))
    assert max(ours) <= BFLOAT16
    if sum(ours) > WORSE * sum(theirs) and task.objective.component_name() in UNSETTLED:
        pytest.xfail(f"{sum(ours) / sum(theirs):.2f} times as far from float32 as the reference, and not known why")
    assert sum(ours) <= WORSE * sum(theirs)
