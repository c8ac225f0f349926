"""Two workers give the loss and gradients of one, in bits that repeat, where nothing is drawn at random."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from luthier.core.component import build
from luthier.core.contracts import Batch, ParameterGroup, Row
from luthier.core.recipe import Phase
from luthier.engine import crew as crews
from luthier.engine.crew import Crew, halves, pays
from luthier.engine.fit import Fit, fit
from luthier.engine.optimize import Stepper
from luthier.engine.step import accumulate
from luthier.functional.packing import pack
from luthier.models.recompute import recompute
from luthier.models.roles import Models, role_of


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch with two threads, and models of any width worth two workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(crews, "_NARROWEST", 0)
    yield
    torch.set_num_threads(before)


def rows(count: int, seed: int = 1) -> list[Row]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 40, count)
    return [
        Row(f"r{at}", draw.integers(5, 390, length), np.arange(length) > 1, weight=1.0 + at % 2)
        for at, length in enumerate(lengths)
    ]


def of_lengths(*lengths: int) -> list[Row]:
    return [Row(f"r{at}", np.arange(5, 5 + length), np.arange(length) > 0) for at, length in enumerate(lengths)]


# ---- cutting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "first"), [((30, 30), 1), ((10, 10, 10, 30), 3), ((24, 3, 3, 3, 3, 4), 1), ((20, 30), 1)]
)
def test_halves_are_packs_of_the_rows_on_either_side_of_the_middle(lengths: tuple[int, ...], first: int) -> None:
    some = of_lengths(*lengths)
    found = halves(pack(some))
    for part, wanted in zip(found, (pack(some[:first]), pack(some[first:])), strict=True):
        assert part.rows == wanted.rows
        for name in ("ids", "starts", "positions", "supervised", "weights"):
            assert torch.equal(getattr(part, name), getattr(wanted, name)), name


def test_fields_and_groups_go_with_their_sequences() -> None:
    some = [
        Row(f"r{at}", np.arange(5, 15), np.arange(10) > 0, fields={"label": np.array(at)}, groups={"k": f"g{at}"})
        for at in range(4)
    ]
    first, second = halves(pack(some))
    assert (first.fields["label"].tolist(), second.fields["label"].tolist()) == ([0, 1], [2, 3])
    assert (first.groups, second.groups) == ({"k": ("g0", "g1")}, {"k": ("g2", "g3")})


@pytest.mark.parametrize("lengths", [(30,), (30, 3), (2, 60, 2)])
def test_what_has_no_near_halves_stays_whole(lengths: tuple[int, ...]) -> None:
    batch = pack(of_lengths(*lengths))
    assert halves(batch) == [batch]


# ---- gradients -------------------------------------------------------------------------------------------------------


def stepped(model: nn.Module, adaptation: str, batches: list[Batch], crewed: bool) -> tuple[float, list[torch.Tensor]]:
    """The loss and the masters' gradients of a step."""
    chosen = build("adaptations", adaptation)
    torch.manual_seed(3)
    model = chosen.apply(copy.deepcopy(model)).train()
    stepper = Stepper(
        build("optimizers", "adamw"), build("schedules", "constant"), chosen.groups(model), lr=1e-3, total=5, clip=None
    )
    models, objective = Models(role_of(model, 0)), build("objectives", "causal_lm")
    with crews.crew_at(crewed) as crew:
        found = accumulate(objective, (), models, batches, pair=(crew, stepper) if crew else None)
    return found.loss, [master.grad for master in stepper.masters if master.grad is not None]


@pytest.mark.parametrize("adaptation", ["full", "lora", "frozen"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
def test_two_workers_give_the_loss_and_gradients_of_one(
    llama: nn.Module, adaptation: str, dtype: torch.dtype, recomputed: bool
) -> None:
    model = llama.to(dtype)
    if recomputed:
        recompute(model)
    batches = [pack(rows(9)), pack(rows(7, 2)), pack(rows(8, 3))]
    loss, gradients = stepped(model, adaptation, batches, crewed=True)
    wanted, expected = stepped(model, adaptation, batches, crewed=False)
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    assert loss == pytest.approx(wanted, rel=tolerance)
    assert len(gradients) == len(expected) > 3
    for found, other in zip(gradients, expected, strict=True):
        assert (found - other).norm() <= tolerance * other.norm() + 1e-9
    again, repeated = stepped(model, adaptation, batches, crewed=True)
    assert again == loss
    assert all(torch.equal(a, b) for a, b in zip(gradients, repeated, strict=True))


def test_parts_are_added_in_their_order_and_what_none_reached_stays_without() -> None:
    """bf16 parts of 3 and 1e8 beside a total of -1e8: added up in float32, another order would give another number."""
    both, one, none, frozen = (nn.Parameter(torch.ones(1, dtype=torch.bfloat16)) for _ in range(4))
    named = [(str(at), weight) for at, weight in enumerate((both, frozen, one, none))]
    stepper = Stepper(
        build("optimizers", "adamw"),
        build("schedules", "constant"),
        [ParameterGroup("all", named)],
        lr=1e-3,
        total=5,
        clip=None,
    )
    frozen.requires_grad_(False)
    assert [weight is found for weight, found in zip((both, one, none), stepper.learning(), strict=True)] == [True] * 3
    (both * -1e8).sum().backward()
    parts = [[torch.tensor([value], dtype=torch.bfloat16), None, None] for value in (1e8, 3.0)]
    parts[0][1] = torch.tensor([5.0], dtype=torch.bfloat16)
    stepper.add(*parts)
    found = [None if master.grad is None else master.grad.item() for master in stepper.masters]
    assert found == [3.0, None, 5.0, None]
    assert parts == [[None] * 3] * 2


# ---- a fit -----------------------------------------------------------------------------------------------------------


def run(model: nn.Module, steps: int = 4) -> list[float]:
    phase = Phase(objective="causal_lm", adaptation="full", per_step={"tokens": 200}, steps=steps)
    given = phase.adaptation.apply(model)
    job = Fit(
        models=Models(role_of(given, 0)),
        objective=phase.objective,
        adaptation=phase.adaptation,
        phase=phase,
        rows=rows(40),
    )
    return list(fit(job).losses)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, int]]:
    """Who worked on halves: each thread's name, and how many threads torch gives it."""
    found: set[tuple[str, int]] = set()
    own = Crew.map

    def watched(self: Crew, work: Any, parts: Any) -> Any:
        def noted(part: Batch) -> object:
            found.add((threading.current_thread().name, torch.get_num_threads()))
            return work(part)

        return own(self, noted, parts)

    monkeypatch.setattr(Crew, "map", watched)
    return found


def test_a_fit_on_two_cores_has_two_workers_of_one_and_repeats(llama: nn.Module, seen: set[tuple[str, int]]) -> None:
    first, second = run(copy.deepcopy(llama)), run(copy.deepcopy(llama))
    assert seen == {("crew_0", 1), ("crew_1", 1)}
    assert first == second
    assert torch.get_num_threads() == 2
    assert not any(thread.name.startswith("crew") for thread in threading.enumerate())


def test_a_fit_on_one_core_works_alone(llama: nn.Module, seen: set[tuple[str, int]]) -> None:
    torch.set_num_threads(1)
    run(copy.deepcopy(llama))
    assert not seen


def test_a_narrow_model_works_alone(
    llama: nn.Module, seen: set[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "_NARROWEST", llama.config.hidden_size + 1)
    run(copy.deepcopy(llama))
    assert not seen


def test_dropout_works_alone(llama: nn.Module) -> None:
    objective, models = build("objectives", "causal_lm"), Models(role_of(llama.train(), 0))
    assert pays(objective, models, rows(3))
    for layer in llama.model.layers:
        layer.self_attn.attention_dropout = 0.1
    before = torch.get_rng_state()
    assert not pays(objective, models, rows(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_objective_works_alone_unless_it_says_otherwise(llama: nn.Module) -> None:
    assert not pays(SimpleNamespace(side_by_side=False), Models(role_of(llama, 0)), rows(3))  # type: ignore[arg-type]
    assert not build("objectives", "classify").side_by_side


def test_what_a_worker_raises_comes_out_after_both_have_ended() -> None:
    ended = []

    def work(part: Batch) -> None:
        if part.rows[0] == "r0":
            raise RuntimeError("out of memory")
        ended.append(part.rows[0])

    with crews.crew_at(True) as crew:
        assert crew is not None
        with pytest.raises(RuntimeError, match="out of memory"):
            crew.map(work, halves(pack(rows(9))))
        assert len(ended) == 1
