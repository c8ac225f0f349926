"""Distillation against TRL's and PyTorch's own losses, on the same tokens; gradients keep their size (T squared)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conformance.world import CPU, Task, examples, load, tokenizer_of
from tiny import make_llama, make_tokenizer
from torch import nn
from torch.nn import functional as F

from luthier.core.component import build
from luthier.core.contracts import Batch, Objective
from luthier.data.encode import Encoding, encode_all
from luthier.engine.precompute import precompute
from luthier.engine.step import accumulate
from luthier.functional import logprobs
from luthier.functional.packing import pack
from luthier.models.roles import Models, Role, models_for, role_of


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


@pytest.mark.parametrize(
    ("kind", "beta"), [("forward_kl", 0.0), ("reverse_kl", 1.0), ("jensen_shannon", 0.5), ("jensen_shannon", 0.1)]
)
def test_whole_distributions_give_trls_loss_and_gradient(
    kind: str, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL leaves T squared out; the vocabulary has 400 pieces, and the output layer goes in parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gkd = pytest.importorskip("trl.experimental.gkd")
    monkeypatch.setattr(logprobs, "CHUNK", 2000)
    value = {"teacher": "x", "divergence": kind, "top_k": 400, "temperature": 1.5, "hard": 0.25}
    value |= {"beta": beta} if 0 < beta < 1 else {}
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


# ---- states of layers ------------------------------------------------------------------------------------------------


def heard(model: nn.Module, batch: Batch, layer: int) -> torch.Tensor:
    """[T, H] what transformers itself says a layer hands on, each row through the model alone."""
    found = []
    for row in range(batch.size):
        low, high = batch.starts[row : row + 2].tolist()
        ids = batch.ids[None, low:high]
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        found.append(output.hidden_states[layer + 1][0])
    return torch.cat(found)


@pytest.mark.parametrize("packed", [True, False])
def test_states_are_learned_where_they_tell_a_token_through_maps_of_their_own(packed: bool) -> None:
    """A wider teacher; the last layer is left out, whose states transformers gives after the last norm."""
    value = {"teacher": "x", "top_k": 400, "temperature": 1.0, "hard": 0.25, "state_weight": 0.5}
    objective = objective_of({"distill": {**value, "layers": [[0, 0], [0, 1], [1, 1]]}})
    teacher = make_llama(seed=1, num_hidden_layers=3, hidden_size=48).requires_grad_(False)
    model = make_llama(num_hidden_layers=3)
    task = taught(objective, teacher)

    def role(of: nn.Module) -> Role:
        found = role_of(of, 0)
        return found if packed else Role(of, 0, None)

    models = models_for(objective, role(model), {"teacher": role(teacher)})
    assert models.own is not None
    again = models_for(objective, role(model), {"teacher": role(teacher)}).own
    assert all(torch.equal(one, other) for one, other in zip(models.own.parameters(), again.parameters(), strict=True))
    loss = accumulate(objective, (), models, [task.batch(0, 1), task.batch(2, 3, 4, 5)]).loss
    batch = task.batch()
    student, asked, labels = whole(model, batch), whole(teacher, batch), batch.ids[batch.supervised]
    soft = F.kl_div(student.log_softmax(-1), asked.log_softmax(-1), log_target=True, reduction="batchmean")
    at, parts = batch.supervised.nonzero()[:, 0] - 1, []
    for one, (own, other) in zip(models.own, [(0, 0), (0, 1), (1, 1)], strict=True):
        parts.append(F.mse_loss(F.linear(heard(model, batch, own)[at], one.weight), heard(teacher, batch, other)[at]))
    wanted = 0.25 * F.cross_entropy(student, labels) + 0.75 * soft + 0.5 * torch.stack(parts).mean()
    compared(nn.ModuleList([model, models.own]), loss, wanted)


def test_a_classifier_learns_the_mean_over_a_rows_tokens() -> None:
    value = {"teacher": "x", "temperature": 1.0, "hard": 0.4, "layers": [[0, 1], [1, 0]], "state_distance": "cosine"}
    objective = objective_of({"distill_classify": value})
    facts = Task.of(objective).facts
    teacher, loaded = load("bert", objective.task, facts).model, load("bert", objective.task, facts)
    with torch.no_grad():
        for number, parameter in enumerate(teacher.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(noise, alpha=0.1)
    task, model, role = taught(objective, teacher), loaded.model, role_of(teacher.requires_grad_(False), 0)
    models = models_for(objective, role_of(model, 0), {"teacher": role})
    assert models.own is None, "both are as wide: states are compared as they are"
    loss = accumulate(objective, (), models, [task.batch(0, 1), task.batch(2, 3, 4, 5)]).loss
    batch = task.batch()
    logits, asked = models.policy.class_logits(batch), role.class_logits(batch)
    soft = F.kl_div(logits.log_softmax(-1), asked.log_softmax(-1), log_target=True, reduction="batchmean")
    pairs = [(heard(model, batch, own), heard(teacher, batch, other)) for own, other in value["layers"]]  # type: ignore[union-attr]
    apart = torch.stack([1 - F.cosine_similarity(own, other, dim=-1) for own, other in pairs]).mean(0)
    rows = torch.stack([part.mean() for part in apart.split(batch.starts.diff().tolist())])
    compared(model, loss, 0.4 * F.cross_entropy(logits, batch.fields["label"]) + 0.6 * soft + rows.mean())


# ---- another tokenizer -----------------------------------------------------------------------------------------------


def test_with_one_tokenizer_ranks_are_trls_and_every_token_is_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gold = pytest.importorskip("trl.experimental.gold.gold_trainer")
    monkeypatch.setattr(logprobs, "CHUNK", 2000)
    value = {"teacher": "x", "ranks": 1.5, "top_k": 400, "temperature": 1.5, "hard": 0.25}
    objective = objective_of({"distill_across": value})
    encoding = Encoding(tokenizer_of(), max_length=128)
    encoding.beside = {"teacher": encoding}
    teacher, model = make_llama(seed=1), make_llama()
    role = role_of(teacher, 0)
    rows = encode_all(objective, examples("messages"), encoding)
    rows = precompute(objective, role, rows, device=CPU, micro_tokens=64, others={"teacher": role})
    assert not any(row.views for row in rows), "what the teacher was shown is let go"
    loss = accumulate(objective, (), Models(role_of(model, 0)), [pack(rows[:2]), pack(rows[2:])]).loss
    batch = pack(rows)
    student, labels = whole(model, batch), batch.ids[batch.supervised]
    with torch.no_grad():
        asked = whole(teacher, batch)
    skipped = dict.fromkeys(("uld_skip_student_eos", "uld_skip_teacher_eos", "use_extended_uld"), False)
    settings = {"uld_crossentropy_weight": 0.0, "uld_distillation_weight": 1.0, "uld_token_merge_strategy": "bayesian"}
    heat = {"uld_student_temperature": 1.5, "uld_teacher_temperature": 1.5}
    uld = gold.ULDLoss(SimpleNamespace(**skipped, **settings, **heat))
    ids = torch.cat([labels.new_zeros(1), labels])[None]
    marks = torch.cat([labels.new_full((1,), -100), labels])[None]
    given = [torch.cat([logits, logits[:1]])[None] for logits in (student, asked)]
    ranks = uld(*given, marks, marks, ids, ids)
    said = [logits.log_softmax(-1).gather(1, labels[:, None])[:, 0] / 1.5 for logits in (student, asked)]
    ours, theirs = (torch.stack([one.exp(), 1 - one.exp()], -1) for one in said)
    spans = F.kl_div(ours.log(), theirs, reduction="batchmean")
    compared(model, loss, 0.25 * F.cross_entropy(student, labels) + 0.75 * (spans + 1.5 * ranks))


def test_a_span_of_several_tokens_is_worth_their_product() -> None:
    """By hand, with a teacher of another tokenizer and vocabulary."""
    objective = objective_of({"distill_across": {"teacher": "x", "hard": 0.0, "divergence": "reverse_kl"}})
    encoding, other = (Encoding(make_tokenizer(size=size), max_length=128) for size in (400, 320))
    encoding.beside = {"teacher": other}
    teacher, model = make_llama(vocabulary=320, seed=1), make_llama()
    role, (example, *_) = role_of(teacher, 0), examples("messages")
    (row,) = objective.encode(example, encoding)
    view = row.views["teacher"]
    marks, others = row.tokens["marks"], view.tokens["marks"]
    assert len(others) > len(marks), "fewer pieces: more of them"
    assert (marks == 2).sum() == (others == 2).sum() >= 3
    assert (marks > 0).all(), "the whole answer lies in spans, its end too"
    assert (others > 0).all()
    (told,) = precompute(objective, role, [row], device=CPU, micro_tokens=64, others={"teacher": role})
    step = accumulate(objective, (), Models(role_of(model, 0)), [pack([told])])
    loss = step.loss
    assert step.figures == {"aligned": 1.0}

    def spans(model: nn.Module, one: Any, marks: Any) -> torch.Tensor:
        batch = pack([one])
        logps = whole(model, batch).log_softmax(-1).gather(1, batch.ids[batch.supervised][:, None])[:, 0]
        firsts = np.flatnonzero(marks == 2).tolist()
        return torch.stack([part.sum() for part in torch.tensor_split(logps, firsts[1:])]).exp()

    ours = spans(model, row, marks)
    theirs = spans(teacher, view, others).detach()
    far = ours * (ours / theirs).log() + (1 - ours) * ((1 - ours) / (1 - theirs)).log()
    compared(model, loss, far.sum() / len(marks))


def test_where_tokenizers_agree_is_part_of_what_the_teacher_was_asked(tmp_path: Path) -> None:
    """Two spans become one: what is kept of the row as it was says nothing of it now. Of a row without spans nothing is
    learned but its labels, and the share of tokens that lie in spans tells it.
    """
    objective, file = objective_of({"distill_across": {"teacher": "x"}}), tmp_path / "teacher.safetensors"
    encoding = Encoding(tokenizer_of(), max_length=128)
    encoding.beside = {"teacher": encoding}
    model = make_llama()
    role = role_of(make_llama(seed=1), 0)
    row = objective.encode(examples("messages")[0], encoding)[0]

    def told(*marks: int, file: Path | None = None) -> Any:
        changed = row.tokens["marks"].copy()
        changed[: len(marks)] = marks
        view = replace(row.views["teacher"], tokens={"marks": changed})
        given = replace(row, tokens={"marks": changed}, views={"teacher": view})
        return precompute(objective, role, [given], device=CPU, micro_tokens=64, others={"teacher": role}, file=file)[0]

    apart, joined = told(2, 2, file=file), told(2, 1, file=file)
    np.testing.assert_allclose(joined.tokens["said"][0], apart.tokens["said"][:2].sum(), rtol=1e-5)
    np.testing.assert_array_equal(joined.tokens["said"], told(2, 1).tokens["said"])

    nothing = told(*[0] * len(row.tokens["marks"]))
    step = accumulate(objective, (), Models(role_of(model, 0)), [pack([apart]), pack([nothing])])
    assert step.figures["aligned"] == pytest.approx(0.5)
    assert accumulate(objective, (), Models(role_of(model, 0)), [pack([nothing])]).terms["spans"] == 0
