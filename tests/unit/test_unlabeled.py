"""Learning classes from rows of which only some have one: rows and their views, losses of a step, the mean teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import make_bert
from torch import nn

from luthier.core.component import build
from luthier.core.contracts import Batch, Objective, Row
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin
from luthier.core.recipe import Phase
from luthier.core.unlabeled import Unlabeled
from luthier.data.encode import Encoding, encode_all
from luthier.data.ledger import Ledger
from luthier.engine.fit import Fit, fit
from luthier.engine.settle import settled
from luthier.engine.step import accumulate, mean_loss
from luthier.functional.packing import pack
from luthier.models.roles import Models, role_of

FACTS = {
    "classes": ["bad", "good", "odd"],
    "multi_label": False,
    "class_weights": dict.fromkeys(("bad", "good", "odd"), 1.0),
}


def labeled(name: str, text: str, target: Any) -> Example:
    return Example(name, {"text": text}, Origin("rows.csv", 1), target)


def bare(name: str, text: str) -> Example:
    return Example(name, {"text": text}, Origin("pool.csv", 1))


def variant(name: str, of: str, text: str, target: Any = None) -> Example:
    return Example(name, {"text": text}, Origin("pool.csv", 1, parents=(of,), synthetic=True), target)


ROWS = (
    labeled("l1", "The bridge is good.", "good"),
    bare("u1", "How long does a setup take?"),
    variant("u1~1", "u1", "How long take a setup?"),
    labeled("l2", "The peg sticks, which is bad.", "bad"),
    bare("u2", "New strings cost 60 euros."),
    variant("u1~2", "u1", "How long, does a setup take?"),
    variant("l1~1", "l1", "The good bridge.", "good"),
    bare("u3", "The moon listened anyway."),
)


def objective(value: Any) -> Unlabeled:
    found = build("objectives", value)
    assert isinstance(found, Unlabeled)
    return found


def rows_of(value: Any, tokenizer: Any, examples: Any = ROWS) -> list[Row]:
    one = objective(value)
    return one.complete(encode_all(one, examples, Encoding(tokenizer, max_length=64, facts=FACTS)), 1)


def said(tokenizer: Any, row: Row) -> list[str]:
    """The texts of a row's branches."""
    cuts = np.split(row.ids, np.cumsum(row.branches)[:-1])
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in cuts]


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_an_unlabeled_row_comes_with_each_of_its_variants_in_turn(tokenizer: Any) -> None:
    rows = rows_of("uda", tokenizer)
    assert [row.id for row in rows] == ["l1", "u1", "u1#2", "l2", "u2", "l1~1", "u3"]
    assert [row.fields["label"].tolist() for row in rows] == [1, -1, -1, 0, -1, 1, -1]
    texts = [example.parts["text"] for example in ROWS]
    assert [said(tokenizer, row) for row in rows[1:3]] == [[texts[1], texts[2]], [texts[1], texts[5]]]
    assert [len(row.branches) for row in rows] == [1, 2, 2, 1, 1, 1, 1], "without a variant a row is both views"
    assert [row.repeat for row in rows] == [1, 0.5, 0.5, 1, 1, 1, 1], "variants together come as often as their row"


def test_labeled_rows_are_repeated_until_few_others_stand_beside_each(tokenizer: Any) -> None:
    rows = rows_of({"uda": {"unlabeled": 0.5}}, tokenizer)
    known = sum(row.repeat for row in rows if row.fields["label"] >= 0)
    assert known == pytest.approx(3 / 0.5), "three unlabeled rows, in whatever number of views"
    assert sum(row.repeat for row in rows if row.fields["label"] < 0) == pytest.approx(3)


def test_a_variant_whose_row_was_dropped_stands_for_it(tokenizer: Any) -> None:
    rows = rows_of("fixmatch", tokenizer, [ROWS[0], ROWS[2], ROWS[5]])
    assert [row.id for row in rows] == ["l1", "u1~1"]
    assert said(tokenizer, rows[1]) == [ROWS[2].parts["text"], ROWS[5].parts["text"]]


@pytest.mark.parametrize(
    ("examples", "found"),
    [
        ([ROWS[0], ROWS[3]], "all 2 rows have a class"),
        ([ROWS[1], ROWS[4]], "holds 0 classes"),
        ([ROWS[0], ROWS[1]], "holds 1 class"),
        ([labeled("a", "x", ("good", "bad")), labeled("b", "y", ("odd",)), ROWS[1]], "several classes each"),
    ],
    ids=["all", "none", "one", "several"],
)
def test_rows_that_teach_nothing_are_refused(examples: list[Example], found: str) -> None:
    with pytest.raises(DataError, match=found) as caught:
        objective("uda").survey(examples)
    assert all(problem.remedy for problem in caught.value.problems)


def test_rows_to_measure_on_need_a_class() -> None:
    one = objective("mean_teacher")
    assert one.survey(ROWS)["classes"] == ["bad", "good"]
    with pytest.raises(DataError, match="the row 'u1' has no label") as caught:
        one.require([ROWS[0], ROWS[1]], FACTS)
    assert "files of labeled rows as data.validation and data.test" in str(caught.value.problems[0].remedy)


def test_classify_leaves_out_what_a_later_round_learns_from(tokenizer: Any) -> None:
    plain, leaves = (build("objectives", value) for value in ("classify", {"classify": {"unlabeled": "leave_out"}}))
    assert isinstance(plain, Objective)
    assert isinstance(leaves, Objective)
    with pytest.raises(DataError, match="the row 'u1' has no label, and 4 more"):
        plain.survey(ROWS)
    facts = leaves.survey(ROWS)
    assert facts["class_weights"] == {"bad": 1.0, "good": 1.0}
    rows = encode_all(leaves, ROWS, Encoding(tokenizer, max_length=64, facts=facts))
    assert [row.id for row in rows] == ["l1", "l2", "l1~1"]
    with pytest.raises(DataError, match="has no label"):
        leaves.require(ROWS, facts)


# ---- losses of a step ------------------------------------------------------------------------------------------------


def alone(model: nn.Module, row: Row, branch: int) -> torch.Tensor:
    """[C] what transformers' own forward says of a view."""
    cuts = np.split(row.ids, np.cumsum(row.branches)[:-1])
    found: torch.Tensor = model(input_ids=torch.from_numpy(cuts[branch])[None]).logits[0].double()
    return found


def cross_entropy(model: nn.Module, row: Row) -> torch.Tensor:
    return F.cross_entropy(alone(model, row, 0), torch.tensor(int(row.fields["label"])))


def by_hand(value: Any, model: nn.Module, rows: list[Row]) -> torch.Tensor:
    """The loss of a step in eval mode: each formula as it is written, a row at a time."""
    name, given = next(iter(value.items()))
    known = [cross_entropy(model, row) for row in rows if row.fields["label"] >= 0]
    parts = []
    for row in rows:
        first, last = alone(model, row, 0).detach(), alone(model, row, -1)
        probable = first.softmax(-1)
        if name == "mean_teacher":
            parts.append((last.softmax(-1) - probable).square().sum())
        elif row.fields["label"] < 0 and name == "uda":
            sharp = (first / given["temperature"]).softmax(-1)
            part = (sharp * (sharp.log() - last.log_softmax(-1))).sum()
            parts.append(part * bool(probable.max() > given["confidence"]))
        elif row.fields["label"] < 0:
            parts.append(-last.log_softmax(-1)[probable.argmax()] * bool(probable.max() >= given["confidence"]))
    return torch.stack(known).mean() + given["weight"] * torch.stack(parts).mean()


@pytest.mark.parametrize(
    "value",
    [
        {"uda": {"confidence": 0.0, "temperature": 0.5, "weight": 0.7}},
        {"fixmatch": {"confidence": 0.0, "weight": 0.7}},
        {"mean_teacher": {"weight": 2.0}},
    ],
    ids=lambda value: next(iter(value)),
)
def test_the_step_is_the_formula_however_it_is_cut(value: Any, tokenizer: Any) -> None:
    torch.manual_seed(3)
    model = make_bert().eval()
    with torch.no_grad():
        model.classifier.weight.mul_(25)  # so that classes differ
    other = [variant("u2~1", "u2", "60 euros for strings."), variant("u3~1", "u3", "Anyway, the moon.")]
    rows = rows_of(value, tokenizer, [*ROWS, *other])  # whoever is sure has two views
    with torch.no_grad():
        sure = sorted({alone(model, row, 0).softmax(-1).max().item() for row in rows if row.fields["label"] < 0})
    ((name, given),) = value.items()
    if "confidence" in given:  # between the rows: some are sure and some are not
        assert sure[1] - sure[0] > 1e-4
        value = {name: {**given, "confidence": (sure[0] + sure[1]) / 2}}
    one = objective(value)
    wanted = by_hand(value, model, rows)
    wanted.backward()
    exact = {name: p.grad.clone() for name, p in model.named_parameters()}
    for cuts in ([range(len(rows))], [[0], [1, 2, 3], [4, 5], [6]], [[0, 3], [1, 2, 4, 5, 6]]):
        model.zero_grad()
        step = accumulate(one, (), Models(role_of(model, 0)), [pack([rows[at] for at in cut]) for cut in cuts])
        assert step.loss == pytest.approx(wanted.item(), rel=3e-6)
        largest = max(float(gradient.abs().max()) for gradient in exact.values())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, exact[name], rtol=0, atol=3e-6 * largest, msg=name)


def test_a_step_without_unlabeled_rows_is_classify(tokenizer: Any) -> None:
    model = make_bert().eval()
    rows = [row for row in rows_of("uda", tokenizer) if row.fields["label"] >= 0]
    plain = [replace(row, branches=(), fields={"label": row.fields["label"]}) for row in rows]
    models = Models(role_of(model, 0))
    wanted = mean_loss(build("objectives", "classify"), models, [pack(plain)])  # type: ignore[arg-type]
    for value in ("uda", "fixmatch", "mean_teacher"):
        assert mean_loss(objective(value), models, [pack(rows)]) == pytest.approx(wanted, rel=1e-6)


# ---- the mean teacher ------------------------------------------------------------------------------------------------


def job(tokenizer: Any, value: Any, **changes: Any) -> Fit:
    torch.manual_seed(0)
    phase = Phase.model_validate(
        {
            "objective": value,
            "adaptation": changes.pop("adaptation", "full"),
            "optimizer": {"adamw": {"lr": 3e-3}},
            "steps": 4,
            "per_step": {"rows": 4},
            "watch": {"every": 4},
        }
    )
    rows = rows_of(value, tokenizer)
    calm = make_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = phase.adaptation.apply(calm.to(changes.pop("dtype", torch.float32)))
    return Fit(Models(role_of(model, 0)), phase.objective, phase.adaptation, phase, rows, micro_tokens=24, **changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_result_is_the_mean_of_the_weights_over_the_steps(
    tokenizer: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decay 0.6: the first step keeps a half, since that is less, the others 0.6."""
    from luthier.engine.optimize import Stepper

    seen: list[dict[str, torch.Tensor]] = []
    step = Stepper.step

    def watched(self: Stepper, index: int) -> float:
        if not seen:
            seen.append({name: value.clone() for name, value in self.weights().items()})
        rate = step(self, index)
        seen.append({name: value.clone() for name, value in self.weights().items()})
        return rate

    monkeypatch.setattr(Stepper, "step", watched)
    one = job(tokenizer, {"mean_teacher": {"decay": 0.6}}, dtype=dtype)
    fit(one)
    assert len(seen) == 5
    result = dict(one.models.policy.model.named_parameters())
    for name, start in seen[0].items():
        mean = start
        for keep, weights in zip((0.5, 0.6, 0.6, 0.6), seen[1:], strict=True):
            mean = keep * mean + (1 - keep) * weights[name]
        torch.testing.assert_close(result[name], mean.to(dtype), rtol=1e-6 if dtype == torch.float32 else 0, atol=1e-7)
    assert any(not torch.equal(result[name], value.to(dtype)) for name, value in seen[-1].items())


def test_the_teacher_is_asked_and_not_the_model(tokenizer: Any) -> None:
    """With decay 0 it is the model of the step before, and the distance is 0; else it lags behind."""
    found: dict[float, list[float]] = {}
    for decay in (0.0, 0.9):
        events: list[dict[str, Any]] = []
        value = {"mean_teacher": {"decay": decay, "weight": 1.0}}
        plain = [example for example in ROWS if not example.origin.synthetic]
        one = job(tokenizer, value, log=lambda event, events=events, **values: events.append({"event": event} | values))
        one.rows = rows_of(value, tokenizer, plain)  # each row its own second view
        fit(one)
        found[decay] = [event["terms"]["consistency"] for event in events if event["event"] == "step"]
    assert found[0.0] == pytest.approx([0.0] * 4, abs=1e-9)
    assert found[0.9][0] == pytest.approx(0.0, abs=1e-9), "it begins as the model"
    assert min(found[0.9][1:]) > 1e-6


def test_beside_an_adapter_the_mean_is_of_the_adapter(tokenizer: Any) -> None:
    one = job(tokenizer, "mean_teacher", adaptation={"lora": {"rank": 2}}, validation=rows_of("uda", tokenizer)[:1])
    model = one.models.policy.model
    before = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    fit(one)
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in before.items())


# ---- self-training ---------------------------------------------------------------------------------------------------


def settle(
    tokenizer: Any, folder: Path, value: dict[str, Any], answers: dict[str, list[float]]
) -> tuple[list[Row], Ledger, list[str]]:
    """The rows that are learned where the teacher gives these probabilities, the ledger that is written, and notes."""
    one = objective({"self_train": {"teacher": "first", **value}})
    given = [
        replace(row, fields={**row.fields, "said": np.log(np.float32(answers.get(row.id[:2], [1, 1, 1])))})
        for row in rows_of({"self_train": {"teacher": "first"}}, tokenizer)
    ]
    notes: list[str] = []
    found = settled(one, given, ROWS, FACTS, file=folder / "ledger.parquet", note=notes.append)
    return found, Ledger.read(folder / "ledger.parquet"), notes


ANSWERS = {"u1": [0.05, 0.92, 0.03], "u2": [0.03, 0.95, 0.02], "u3": [0.6, 0.3, 0.1]}


def test_rows_that_the_teacher_is_sure_of_are_learned_with_its_class(tokenizer: Any, tmp_path: Path) -> None:
    found, ledger, notes = settle(tokenizer, tmp_path, {"confidence": 0.9}, ANSWERS)
    assert [(row.id, int(row.fields["label"]), bool(row.fields["pseudo"])) for row in found] == [
        ("l1", 1, False),
        ("u1", 1, True),
        ("u1#2", 1, True),
        ("l2", 0, False),
        ("u2", 1, True),
        ("l1~1", 1, False),
    ]
    texts = [example.parts["text"] for example in ROWS]
    assert [said(tokenizer, row) for row in found[1:3]] == [[texts[2]], [texts[5]]], "variants in place of the row"
    told = [(entry.action, entry.id, entry.kind) for entry in ledger.entries]
    assert told == [
        ("added", "u1~self_train.1", "labeled by the teacher"),
        ("added", "u2~self_train.1", "labeled by the teacher"),
        ("dropped", "u3", "the teacher is not sure enough"),
    ]
    assert ledger.entries[0].reason.endswith("0.920")
    assert ledger.entries[2].dropped() == ROWS[7]
    assert notes == ["of 3 rows 2 added (labeled by the teacher), 1 dropped (the teacher is not sure enough)"]


def test_of_each_class_the_surest_are_taken(tokenizer: Any, tmp_path: Path) -> None:
    found, ledger, _ = settle(tokenizer, tmp_path, {"confidence": 0.5, "share": 0.5}, ANSWERS)
    assert [row.id for row in found if row.fields["pseudo"]] == ["u2", "u3"], "the surer one of two good, the only bad"
    (left,) = [entry for entry in ledger.entries if entry.action == "dropped"]
    assert (left.id, left.kind) == ("u1", "the teacher is surer of others of the class")


def test_pseudo_labels_are_a_mean_of_their_own(tokenizer: Any, tmp_path: Path) -> None:
    rows, _, _ = settle(tokenizer, tmp_path, {"confidence": 0.5, "weight": 0.5}, ANSWERS)
    one = objective({"self_train": {"teacher": "first", "weight": 0.5}})
    model = make_bert().eval()
    losses = [cross_entropy(model, row).item() for row in rows]
    known = [loss for loss, row in zip(losses, rows, strict=True) if not row.fields["pseudo"]]
    pseudo = [loss for loss, row in zip(losses, rows, strict=True) if row.fields["pseudo"]]
    batches: list[Batch] = [pack(rows[:2]), pack(rows[2:])]
    step = accumulate(one, (), Models(role_of(model, 0)), batches)
    assert step.loss == pytest.approx(np.mean(known) + 0.5 * np.mean(pseudo), rel=3e-6)
