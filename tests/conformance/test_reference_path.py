"""The fast path gives the reference path's loss and gradients, for whatever the catalog composes.

Fast: packed, with the modules of models/fused.py and the output layer in chunks, as the engine trains. Reference: each
row alone and padded, through transformers' and PEFT's own modules, whole logits, plain cross-entropy. An objective or
adaptation is tried by being in its room: the reference answers the verbs of a role, and nothing here names a component.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from conformance.compositions import Composition, defaults
from conformance.world import KINDS, Task, home, meet, models_of, settings
from torch import Tensor, nn
from torch.nn import functional as F

from luthier.core.contracts import Batch
from luthier.core.on_policy import OnPolicy
from luthier.core.unlabeled import Unlabeled
from luthier.engine.step import accumulate
from luthier.functional import logprobs
from luthier.functional.branches import unshared
from luthier.models import fused
from luthier.models.cast import cast
from luthier.models.load import Loaded
from luthier.models.roles import role_of

FLOAT32 = 3e-6
"""Share of the reference's loss, and of its gradient as one vector, that rounding may take; 6e-7 was measured."""
BFLOAT16_LOSS, BFLOAT16 = 0.004, 0.04
"""The same shares in bf16, against the float32 reference: 2^-8 is half a unit in the last place, of which gradients
gather some. 0.0012 and 0.020 were measured."""
COSINES = 3.0
"""Times, for a loss over vectors: their cosines, which differ little, go through a softmax after a factor of 20."""
RATIOS = 10.0
"""Times, for a loss over ratios of probabilities: what rounding adds to an answer's log-probability, a sum of dozens of
nats, is there a share of the ratio."""
WORSE = 1.25
"""Times the distance of the reference path in bf16 from float32: the fast one must not stray farther.
1.13 was measured."""
DRAWS = 2
"""Sets of weights over which these distances are added up: both paths round, in another order, so that for a single set
the ratio scatters from 0.7 to 1.4."""
MORE_DRAWS = 12
"""As many where those do not tell: for IPO, ORPO and DPO with prefixes it scatters from 0.3 to 2.5, and is 1.08, 1.23
and 0.95 over twelve."""


def cases() -> list[Composition]:
    """What composes: every objective with every adaptation on every model, each in its defaults and its example.

    An example of one goes with the defaults of the other.
    """
    objectives, adaptations = defaults("objectives"), defaults("adaptations")
    every = [
        Composition(objective, adaptation, kind)
        for kind in KINDS
        for _, objective in settings("objectives")
        if kind != "t5" and meet(kind, objective.task)  # never packed: tests/numerics/test_encoder_decoder.py
        for _, adaptation in settings("adaptations")
        if objective in objectives or adaptation in adaptations
        # What learns from unlabeled rows goes through a model as classify does: defaults, where they are at home.
        if not isinstance(objective, Unlabeled)
        or (objective in objectives and adaptation in adaptations and kind == home(objective.task))
    ]
    learned = [one for one in every if not one.adaptation.solved]  # what is solved has no gradients
    return [one for one in learned if one.refusal() is None]  # docs/compositions.md has the reasons


def rounding(every: list[Composition]) -> list[Composition]:
    """Those that no other rounds like: an objective beside `full`, an adaptation beside the first objective of each
    task, of rows that branch and of rows that do not. Other parameters of an objective round as its defaults do.
    """
    found: list[Composition] = []
    seen: set[tuple[Any, ...]] = set()
    plain_ones = defaults("objectives")
    for one in every:
        if one.objective in plain_ones and not isinstance(one.objective, OnPolicy):
            branched = any(len(row.branches) > 1 for row in one.task().rows)
            place = (one.kind, one.objective.task, branched, repr(one.adaptation))
            if place not in seen or one.adaptation.component_name() == "full":
                found.append(one)
            seen.add(place)
    return found


CASES = cases()
ROUNDING = rounding(CASES)


def plain(batch: Batch) -> Batch:
    """Each branch behind its own copy of what it shares (tests/unit/functional/test_branches.py)."""
    return batch if batch.branches is None else unshared(batch)[0]


@dataclass
class PlainRole:
    """The verbs of a role by a model's own forward: one row after another, padded at the end, whole logits.

    only: the branch that learns; what is said of a row's others is detached.
    """

    model: nn.Module
    pad: int
    only: int | None = None

    def _heard(self, batch: Batch, found: list[Tensor]) -> Tensor:
        """What was found for the sequences of `batch`, one row that may branch."""
        if self.only is None or batch.branches is None:
            return torch.cat(found)
        return torch.cat([one if number == self.only else one.detach() for number, one in enumerate(found)])

    def _logits(self, batch: Batch, row: int) -> Tensor:
        """What the model says of one row: [L, V] at its tokens, or [1, C]."""
        low, high = batch.starts[row : row + 2].tolist()
        ids = F.pad(batch.ids[low:high], (0, 3), value=self.pad)
        mask = torch.arange(len(ids)) < high - low
        logits: Tensor = self.model(input_ids=ids[None], attention_mask=mask.long()[None]).logits
        return logits[0, : high - low].float() if logits.dim() == 3 else logits.float()

    def logps(self, batch: Batch, smoothing: float = 0.0, *, alike: bool = False) -> Tensor:
        whole, batch = batch, plain(batch)
        found = []
        for row in range(batch.size):
            low, high = batch.starts[row : row + 2].tolist()
            marks, ids = batch.supervised[low:high], batch.ids[low:high]
            if batch.targets is None:
                logits, targets = self._logits(batch, row)[:-1][marks[1:]], ids[marks]
            else:
                logits, targets = self._logits(batch, row)[marks], batch.targets[low:high][marks]
            found.append(-F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing))
        return self._heard(whole, found)

    def logps_and_states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        whole, batch = batch, plain(batch)
        found = []
        for row in range(batch.size):
            low, high = batch.starts[row : row + 2].tolist()
            ids = F.pad(batch.ids[low:high], (0, 3), value=self.pad)
            mask = (torch.arange(len(ids)) < high - low).long()[None]
            states = self.model(input_ids=ids[None], attention_mask=mask, output_hidden_states=True).hidden_states[-1]
            found.append(states[0, : high - low - 1][batch.supervised[low + 1 : high]])
        return self.logps(whole), self._heard(whole, found)

    def of_logits(self, batch: Batch, read: Any, *given: Tensor) -> tuple[Tensor, ...]:
        found = []
        for row in range(batch.size):
            low, high = batch.starts[row : row + 2].tolist()
            found.append(self._logits(batch, row)[:-1][batch.supervised[low + 1 : high]])
        return read(torch.cat(found), *given)

    def token_logits(self, batch: Batch) -> Tensor:
        cuts = batch.starts.tolist()
        marks = [batch.supervised[low:high] for low, high in itertools.pairwise(cuts)]
        return torch.cat([self._logits(batch, row)[chosen] for row, chosen in enumerate(marks)])

    def span_logits(self, batch: Batch) -> Tensor:
        found = []
        for low, high in itertools.pairwise(batch.starts.tolist()):
            ids = F.pad(batch.ids[low:high], (0, 3), value=self.pad)
            types = torch.zeros_like(ids) if batch.types is None else F.pad(batch.types[low:high], (0, 3))
            mask = torch.arange(len(ids)) < high - low
            output = self.model(input_ids=ids[None], attention_mask=mask.long()[None], token_type_ids=types[None])
            found.append(torch.stack([output.start_logits, output.end_logits], -1)[0, : high - low].float())
        return torch.cat(found)

    def vectors(self, batch: Batch) -> Tensor:
        alone = plain(batch)
        found = []
        for row in range(alone.size):
            low, high = alone.starts[row : row + 2].tolist()
            ids = F.pad(alone.ids[low:high], (0, 3), value=self.pad)
            mask = torch.arange(len(ids)) < high - low
            hidden = self.model(input_ids=ids[None], attention_mask=mask.long()[None]).last_hidden_state
            found.append(F.normalize(hidden[:, : high - low].float().mean(1), dim=-1))
        return self._heard(batch, found)

    def class_logits(self, batch: Batch) -> Tensor:
        alone = plain(batch)
        return self._heard(batch, [self._logits(alone, row) for row in range(alone.size)])


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
    return measured(one, task, models_of(task.objective, role, draw), [rows[:4], rows[4:]])


def cancels(task: Task) -> bool:
    """Whether what rows say of a parameter is of either sign and adds up to little, by what is learned.

    Numbers: a prediction is too high here and too low there. Vectors: rows push each other apart.
    """
    return task.objective.task in ("features", "sequence_score")


def reference(
    one: Composition,
    task: Task,
    dtype: torch.dtype,
    draw: int = 0,
    only: int | None = None,
    parts: dict[str, float] | None = None,
) -> tuple[float, dict[str, Tensor]]:
    """By the reference path, a row at a time; only: as in PlainRole.

    parts: takes, of each parameter, the lengths of its rows' gradients added up, each of which rounds by itself.
    """
    with unfused():
        loaded, model = adapted(one, task, dtype, draw)
        for module in model.modules():
            own = getattr(sys.modules[type(module).__module__], type(module).__name__)
            assert type(module) is own, f"{type(module).__name__} is not the class of that name"
            assert type(module).__module__ != fused.__name__
        # Ours hands whatever comes without boundaries to the model's own; prefixes are added there.
        assert loaded.model.config._attn_implementation.removeprefix("luthier_") in ("sdpa", "eager")
        models = models_of(task.objective, PlainRole(model, loaded.tokenizer.pad_token_id, only), draw)
        if parts is not None:
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.register_hook(partial(_add_length, parts, name))  # called once a row
        return measured(one, task, models, [[row] for row in range(len(task.rows))])


def _add_length(parts: dict[str, float], name: str, gradient: Tensor) -> None:
    parts[name] = parts.get(name, 0.0) + float(gradient.norm())


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Of all gradients as one vector, as a share of the wanted one's length."""
    assert found.keys() == wanted.keys()
    apart = torch.stack([(found[name] - value).norm() for name, value in wanted.items()]).norm()
    return float(apart / torch.stack([value.norm() for value in wanted.values()]).norm())


def sizes(one: Composition, task: Task, exact: dict[str, Tensor]) -> dict[str, float]:
    """Of each gradient its length; where answers are compared, those of every answer's gradient added up.

    The loss's gradient is their difference: each rounds by itself, so that what is left is off by as much.
    """
    if not all(len(row.branches) > 1 for row in task.rows):
        return {name: float(gradient.norm()) for name, gradient in exact.items()}
    last, found = dict(exact), dict.fromkeys(exact, 0.0)
    for number in range(max(len(row.branches) for row in task.rows) - 1):
        for name, gradient in reference(one, task, torch.float32, only=number)[1].items():
            last[name] = last[name] - gradient
            found[name] += float(gradient.norm())
    return {name: found[name] + float(gradient.norm()) for name, gradient in last.items()}


@pytest.mark.parametrize("one", [pytest.param(one, id=f"{number}-{one}") for number, one in enumerate(CASES)])
def test_the_fast_path_gives_the_loss_and_gradients_of_the_reference_path(
    one: Composition, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = one.task()
    parts: dict[str, float] = {}
    loss, exact = reference(one, task, torch.float32, parts=parts)
    assert any(float(gradient.norm()) > 0 for gradient in exact.values())

    found_loss, found = fast(one, task, torch.float32, monkeypatch)
    size = sizes(one, task, exact)
    steep = COSINES if task.objective.task == "features" else RATIOS if isinstance(one.objective, OnPolicy) else 1.0
    times = steep * math.hypot(*size.values()) / math.hypot(*(float(gradient.norm()) for gradient in exact.values()))
    assert found_loss == pytest.approx(loss, rel=FLOAT32 * steep)
    assert distance(found, exact) <= FLOAT32 * times
    for name, gradient in exact.items():
        # Some are zero but for rounding, as that of a key's bias, which softmax does not feel.
        reach = steep * max(size[name], max(size.values()) / 100)
        if cancels(task):
            reach = max(reach, parts[name])
        if task.objective.task == "question_answering" and gradient.shape == (2,):
            reach = max(reach, 1.0)  # a bias of all logits, which a softmax over tokens does not feel: 1 - 1 is left
        assert float((found[name] - gradient).norm()) <= FLOAT32 * reach, name

    if isinstance(one.objective, OnPolicy):
        return  # the exponent of a difference of log-probabilities: bf16's steps there are hundredths of the loss
    if BFLOAT16 * times > 0.5 or one not in ROUNDING:
        return  # bf16 does not tell the two answers apart, and whatever it says of their difference is rounding
    ours: list[float] = []
    theirs: list[float] = []
    for draw in range(MORE_DRAWS):
        if draw >= DRAWS and sum(ours) <= WORSE * sum(theirs):
            break
        wanted_loss, wanted = reference(one, task, torch.float32, draw) if draw else (loss, exact)
        half_loss, half = fast(one, task, torch.bfloat16, monkeypatch, draw)
        assert half_loss == pytest.approx(wanted_loss, rel=BFLOAT16_LOSS * steep)
        ours.append(distance(half, wanted))
        theirs.append(distance(reference(one, task, torch.bfloat16, draw)[1], wanted))
    assert max(ours) <= BFLOAT16 * times
    assert sum(ours) <= WORSE * sum(theirs)
