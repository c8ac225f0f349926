"""Distillation against TRL's and PyTorch's own losses, on the same tokens; gradients keep their size (T squared)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance.world import CPU, Task, load
from tiny import make_llama
from torch import nn
from torch.nn import functional as F

from luthier.core.component import build
from luthier.core.contracts import Batch, Objective
from luthier.engine.precompute import precompute
from luthier.engine.step import accumulate
from luthier.functional import logprobs
from luthier.functional.packing import pack
from luthier.models.roles import Models, Role, role_of


def objective_of(value: Any) -> Objective:
    found = build("objectives", value)
    assert isinstance(found, Objective)
    return found


def taught(objective: Objective, teacher: nn.Module, file: Path | None = None) -> Task:
    """The conformance suite's rows with what `teacher` says of them."""
    task = Task.of(objective)
    bare = [replace(row, tokens={}) for row in task.rows]
    role = role_of(teacher, 0)
    rows = precompute(objective, role, bare, device=CPU, micro_tokens=64, others={"teacher": role}, file=file)
    return Task(objective, task.part, task.facts, rows)


def whole(model: nn.Module, batch: Batch) -> torch.Tensor:
    """[N, V] logits at the supervised tokens, each row through the model alone."""
    found = []
    for row in range(batch.size):
        low, high = batch.starts[row : row + 2].tolist()
        logits = model(input_ids=batch.ids[None, low:high]).logits[0, :-1]
        found.append(logits[batch.supervised[low + 1 : high]])
    return torch.cat(found)


def compared(model: nn.Module, loss: float, wanted: torch.Tensor) -> None:
    """Loss and every gradient, to rounding; the model holds ours."""
    mine = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=2e-6)
    theirs = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert mine.keys() == theirs.keys()
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert largest > 0
    for name, gradient in theirs.items():
        torch.testing.assert_close(mine[name], gradient, rtol=0, atol=1e-5 * largest, msg=name)


@pytest.mark.parametrize(("kind", "beta"), [("forward_kl", 0.0), ("reverse_kl", 1.0), ("jensen_shannon", 0.5)])
def test_whole_distributions_give_trls_loss_and_gradient(
    kind: str, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL leaves T squared out; the vocabulary has 400 pieces, and the output layer goes in parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gkd = pytest.importorskip("trl.experimental.gkd")
    monkeypatch.setattr(logprobs, "CHUNK", 2000)
    value = {"teacher": "x", "divergence": kind, "top_k": 400, "temperature": 1.5, "hard": 0.25}
    teacher, model = make_llama(seed=1), make_llama()
    task = taught(objective_of({"distill": value}), teacher)
    loss = accumulate(task.objective, (), Models(role_of(model, 0)), [task.batch(0, 1), task.batch(2, 3, 4, 5)]).loss
    batch = task.batch()
    student = whole(model, batch)
    with torch.no_grad():
        asked = whole(teacher, batch)
    labels = batch.ids[batch.supervised]
    soft = gkd.GKDTrainer.generalized_jsd_loss(
        student[None], asked[None], labels=labels[None], beta=beta, temperature=1.5, reduction="batchmean"
    )
    compared(model, loss, 0.25 * F.cross_entropy(student, labels) + 0.75 * 1.5**2 * soft)


def test_a_shortlist_is_kept_by_row_and_asked_again_only_where_it_would_differ(tmp_path: Path) -> None:
    value = {"teacher": "x", "top_k": 5}
    teacher, file = make_llama(seed=1), tmp_path / "teacher.safetensors"
    task = taught(objective_of({"distill": value}), teacher, file)
    row = task.rows[2]
    direct = whole(teacher, pack([row])).detach() / 2
    assert row.tokens["ids"].shape == (row.supervised.sum(), 5)
    assert row.tokens["logps"].shape == (row.supervised.sum(), 6)
    wanted = direct.log_softmax(-1).gather(1, torch.from_numpy(row.tokens["ids"]).long())
    np.testing.assert_allclose(row.tokens["logps"][:, :5], wanted, atol=1e-5)

    before = file.stat().st_mtime_ns
    again = taught(objective_of({"distill": value | {"hard": 0.1, "divergence": "reverse_kl"}}), teacher, file)
    assert file.stat().st_mtime_ns == before, "neither share nor distance changes what the teacher says"
    for one, other in zip(task.rows, again.rows, strict=True):
        assert all((one.tokens[name] == other.tokens[name]).all() for name in ("ids", "logps"))
    hotter = taught(objective_of({"distill": value | {"temperature": 3.0}}), teacher, file)
    assert not np.allclose(hotter.rows[2].tokens["logps"], row.tokens["logps"])


def test_a_teacher_that_is_the_student_is_at_no_distance() -> None:
    task = taught(objective_of({"distill": {"teacher": "x", "top_k": 7, "hard": 0.0}}), make_llama())
    model = make_llama()
    step = accumulate(task.objective, (), Models(role_of(model, 0)), [task.batch()])
    assert step.loss == pytest.approx(0, abs=1e-6)
    assert all(float(p.grad.abs().max()) < 1e-6 for p in model.parameters() if p.grad is not None)


def test_the_teacher_is_asked_without_dropout() -> None:
    """In training mode with dropout it would say something else each time; it is put back as it was."""
    teacher = make_llama(seed=1, attention_dropout=0.5)
    teacher.train()
    objective = objective_of({"distill": {"teacher": "x", "top_k": 5}})
    found, again = taught(objective, teacher), taught(objective, teacher)
    assert teacher.training
    for one, other in zip(found.rows, again.rows, strict=True):
        assert (one.tokens["logps"] == other.tokens["logps"]).all()


def test_classes_give_the_textbook_loss_and_gradient() -> None:
    objective = objective_of({"distill_classify": {"teacher": "x", "temperature": 3.0, "hard": 0.4}})
    facts = Task.of(objective).facts
    teacher, loaded = load("bert", objective.task, facts).model, load("bert", objective.task, facts)
    with torch.no_grad():
        for number, parameter in enumerate(teacher.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(noise, alpha=0.1)
    task, model = taught(objective, teacher), loaded.model
    role = Role(model, 0, role_of(model, 0).offset)
    loss = accumulate(objective, (), Models(role), [task.batch(0, 1), task.batch(2, 3, 4, 5)]).loss
    batch = task.batch()
    student = role.class_logits(batch)
    asked = torch.stack([role_of(teacher, 0).class_logits(task.batch(row))[0] for row in range(6)]).detach()
    soft = F.kl_div((student / 3).log_softmax(-1), (asked / 3).log_softmax(-1), log_target=True, reduction="batchmean")
    assert float(soft.detach()) > 1e-3
    compared(model, loss, 0.4 * F.cross_entropy(student, batch.fields["label"]) + 0.6 * 9 * soft)
