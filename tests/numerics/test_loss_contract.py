"""A step's gradient equals that of one big batch, however the step is cut; nothing supervised gives zero, not NaN."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import row, uneven_rows
from tiny import make_bert, make_llama
from torch.nn import functional

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.engine.step import accumulate, mean_loss
from luthier.functional.packing import pack
from luthier.models.roles import Models, role_of

CUTS = {
    "one": [24],
    "even": [6, 6, 6, 6],
    "uneven": [1, 9, 3, 11],
    "singles": [1] * 24,
    "last one short": [10, 10, 4],
}


def cut(rows: list[Row], sizes: list[int]) -> list[Any]:
    ends = np.cumsum([0, *sizes])
    return [pack(rows[a:b]) for a, b in itertools.pairwise(ends)]


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def step(objective: Any, rows: list[Row], sizes: list[int], model: Any, penalties: Any = ()) -> tuple[Any, Any]:
    loss = accumulate(objective, penalties, Models(role_of(model, 0)), cut(rows, sizes))
    return loss, gradients(model)


def reference(model: Any, rows: list[Row], smoothing: float = 0.0) -> tuple[float, dict[str, torch.Tensor]]:
    """The weighted mean token loss of all rows in plain torch, one forward pass a row and one backward for all."""
    total, count = torch.zeros(()), 0.0
    for one in rows:
        ids, marks = torch.from_numpy(one.ids), torch.from_numpy(one.supervised)
        logits = model(input_ids=ids[None]).logits[0, :-1][marks[1:]]
        losses = functional.cross_entropy(logits, ids[1:][marks[1:]], reduction="sum", label_smoothing=smoothing)
        total = total + one.weight * losses
        count += one.weight * int(marks.sum())
    (total / count).backward()
    return (total / count).item(), gradients(model)


def assert_close(given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    assert given.keys() == wanted.keys()
    for name, value in wanted.items():
        reach = float(value.abs().max())
        assert float((given[name] - value).abs().max()) <= tolerance * max(reach, 1e-3), name


@pytest.mark.parametrize("sizes", CUTS.values(), ids=CUTS.keys())
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_that_of_one_big_batch_in_plain_torch(sizes: list[int], smoothing: float) -> None:
    model, rows = make_llama(), uneven_rows()
    value, wanted = reference(model, rows, smoothing)
    loss, given = step(build("objectives", {"causal_lm": {"label_smoothing": smoothing}}), rows, sizes, model)
    assert loss.loss == pytest.approx(value, rel=1e-6)
    assert loss.supervised == sum(int(one.supervised.sum()) for one in rows)
    assert loss.tokens == sum(len(one.ids) for one in rows)
    assert_close(given, wanted, 2e-6)


def test_a_mean_of_micro_batch_means_would_be_something_else() -> None:
    """The mistake that this guards against is large enough to be seen."""
    model, rows = make_llama(), uneven_rows()
    _, whole = reference(model, rows)
    parts = [reference(model, rows[a:b])[1] for a, b in ((0, 1), (1, 10), (10, 13), (13, 24))]
    mean = {name: torch.stack([part[name] for part in parts]).mean(0) for name in whole}
    name = "model.layers.0.mlp.up_proj.weight"
    assert float((mean[name] - whole[name]).abs().max()) > 1e-2 * float(whole[name].abs().max())


@pytest.mark.parametrize("sizes", [CUTS["even"], CUTS["uneven"]], ids=["even", "uneven"])
def test_weights_of_rows_count_in_loss_and_divisor(sizes: list[int]) -> None:
    model = make_llama()
    rows = [Row(one.id, one.ids, one.supervised, 0.5 + i % 3) for i, one in enumerate(uneven_rows())]
    value, wanted = reference(model, rows)
    loss, given = step(build("objectives", "causal_lm"), rows, sizes, model)
    assert loss.loss == pytest.approx(value, rel=1e-6)
    assert_close(given, wanted, 2e-6)


@pytest.mark.parametrize("sizes", CUTS.values(), ids=CUTS.keys())
def test_a_penalty_counts_once_a_step_however_it_is_cut(sizes: list[int]) -> None:
    model, rows = make_llama(), uneven_rows()
    penalty = build("penalties", {"l2_sp": {"weight": 0.3}})
    start = penalty.begin(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    value, wanted = reference(model, rows)
    loss, given = step(build("objectives", "causal_lm"), rows, sizes, model, [(penalty, start)])
    moved = sum(value.numel() for value in start.values()) * 0.01**2
    assert loss.terms["l2_sp"] == pytest.approx(0.15 * moved, rel=1e-4)
    assert loss.loss == pytest.approx(value + loss.terms["l2_sp"], rel=1e-6)
    pulled = {name: value + 0.3 * 0.01 for name, value in wanted.items()}
    assert_close(given, pulled, 1e-5)


def test_a_micro_batch_with_nothing_supervised_changes_nothing() -> None:
    model, rows = make_llama(), uneven_rows(6)
    silent = [row(f"silent-{i}", 9, 0, seed=100 + i) for i in range(3)]
    _, wanted = step(build("objectives", "causal_lm"), rows, [6], model)
    loss, given = step(build("objectives", "causal_lm"), [*rows[:3], *silent, *rows[3:]], [3, 3, 3], model)
    assert np.isfinite(loss.loss)
    assert_close(given, wanted)


@pytest.mark.parametrize("sizes", [[3], [1, 1, 1]])
def test_a_whole_step_with_nothing_supervised_is_zero(sizes: list[int]) -> None:
    model = make_llama()
    silent = [row(f"silent-{i}", 9, 0, seed=100 + i) for i in range(3)]
    loss, given = step(build("objectives", "causal_lm"), silent, sizes, model)
    assert loss.loss == 0.0
    assert loss.supervised == 0
    assert given, "the zero must hang on the graph"
    assert all(float(value.abs().max()) == 0.0 for value in given.values())


def test_rows_of_weight_zero_are_as_if_absent() -> None:
    model, rows = make_llama(), uneven_rows(8)
    muted = [Row(one.id, one.ids, one.supervised, 0.0) if i % 2 else one for i, one in enumerate(rows)]
    _, wanted = reference(model, rows[::2])
    loss, given = step(build("objectives", "causal_lm"), muted, [3, 5], model)
    assert np.isfinite(loss.loss)
    assert_close(given, wanted, 2e-6)
    nothing = [Row(one.id, one.ids, one.supervised, 0.0) for one in rows]
    loss, given = step(build("objectives", "causal_lm"), nothing, [4, 4], model)
    assert loss.loss == 0.0
    assert all(float(value.abs().max()) == 0.0 for value in given.values())


def class_rows(several: bool) -> list[Row]:
    found = []
    for i, one in enumerate(uneven_rows(12)):
        label = np.eye(3, dtype=np.float32)[[i % 3, (i + 1) % 3]].sum(0) if several else np.asarray(i % 3)
        none = np.zeros(len(one.ids), dtype=np.bool_)
        found.append(Row(one.id, one.ids, none, [1.0, 2.0, 0.25][i % 3], fields={"label": label}))
    return found


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sizes", [[12], [1, 7, 4], [1] * 12], ids=["one", "uneven", "singles"])
def test_classification_divides_by_the_weights_of_the_whole_step(
    sizes: list[int], smoothing: float, several: bool
) -> None:
    model, rows = make_bert(), class_rows(several)
    total, count = torch.zeros(()), 0.0
    for one in rows:
        logits = model(input_ids=torch.from_numpy(one.ids)[None]).logits
        label = torch.from_numpy(one.fields["label"])[None]
        if several:
            soft = label * (1 - smoothing) + smoothing / 2
            part = functional.binary_cross_entropy_with_logits(logits, soft, reduction="sum")
        else:
            part = functional.cross_entropy(logits, label, label_smoothing=smoothing)
        total, count = total + one.weight * part, count + one.weight
    (total / count).backward()
    wanted = gradients(model)
    loss, given = step(build("objectives", {"classify": {"label_smoothing": smoothing}}), rows, sizes, model)
    assert loss.loss == pytest.approx((total / count).item(), rel=1e-6)
    assert_close(given, wanted, 3e-6)


def test_validation_divides_once_over_all_batches() -> None:
    model, rows = make_llama(), uneven_rows()
    value, _ = reference(model, rows)
    for sizes in CUTS.values():
        loss = mean_loss(build("objectives", "causal_lm"), Models(role_of(model, 0)), cut(rows, sizes))
        assert loss == pytest.approx(value, rel=1e-6)
