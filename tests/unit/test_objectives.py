"""Losses and gradients of the objectives against transformers' own loss, torch's and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from tiny import make_bert, make_llama

from luthier.core.contracts import Row
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin, turns
from luthier.data.encode import Encoding
from luthier.engine.step import accumulate, mean_loss
from luthier.functional.packing import pack
from luthier.models.roles import Models, role_of
from luthier.objectives.causal_lm import CausalLM
from luthier.objectives.classify import Classify

DOCUMENT = Example("d", {"text": "The luthier keeps the plates thin and the varnish thinner."}, Origin("d", 1))
CONVERSATION = Example(
    "c",
    {
        "messages": turns(
            ("system", "Be short."),
            ("user", "How long does a setup take?"),
            ("assistant", "About two hours."),
            ("user", "And the strings?"),
            ("assistant", "60 euros."),
        )
    },
    Origin("c", 1),
)


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def same_gradients(model, mine: dict[str, torch.Tensor]) -> None:
    """Equal to those in the model now, relative to the largest of all: sums that cancel keep their rounding."""
    theirs = gradients(model)
    assert mine.keys() == theirs.keys()
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(mine[name], gradient, rtol=0, atol=2e-6 * largest, msg=name)


# ---- causal_lm -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", [DOCUMENT, CONVERSATION], ids=["document", "conversation"])
def test_causal_lm_is_transformers_own_loss(llama, tokenizer, example):
    objective = CausalLM()
    (row,) = objective.encode(example, Encoding(tokenizer, max_length=256))
    step = accumulate(objective, (), Models(role_of(llama, 0)), [pack([row])])
    mine = gradients(llama)
    labels = torch.tensor(np.where(row.supervised, row.ids, -100))[None]
    loss = llama(torch.tensor(row.ids)[None], labels=labels).loss
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert step.supervised == int(row.supervised.sum()) < len(row.ids)
    same_gradients(llama, mine)


def test_a_conversation_is_learned_in_its_answers_alone(tokenizer):
    (row,) = CausalLM().encode(CONVERSATION, Encoding(tokenizer, max_length=256))
    learned = tokenizer.decode(row.ids[row.supervised])
    assert learned == "About two hours.<|im_end|>60 euros.<|im_end|>"


def test_a_step_is_a_token_mean_and_not_a_mean_of_means(llama, tokenizer):
    """Transformers' loss over a padded batch of unequal rows, labels -100 at the padding, is one token mean."""
    objective, encoding = CausalLM(), Encoding(tokenizer, max_length=256)
    rows = [*objective.encode(DOCUMENT, encoding), *objective.encode(CONVERSATION, encoding)]
    models = Models(role_of(llama, 0))
    step = accumulate(objective, (), models, [pack([row]) for row in rows])
    mine = gradients(llama)
    width = max(len(row.ids) for row in rows)
    ids, labels, mask = (torch.full((2, width), fill) for fill in (0, -100, 0))
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        labels[number, : len(row.ids)] = torch.tensor(np.where(row.supervised, row.ids, -100))
        mask[number, : len(row.ids)] = 1
    loss = llama(ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    same_gradients(llama, mine)
    means = [accumulate(objective, (), models, [pack([row])]).loss for row in rows]
    assert abs(float(np.mean(means)) - step.loss) > 1e-4, "the rows are unequal, so that the difference shows"


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_is_torchs(llama, tokenizer, smoothing):
    objective = CausalLM(label_smoothing=smoothing)
    (row,) = objective.encode(CONVERSATION, Encoding(tokenizer, max_length=256))
    step = accumulate(objective, (), Models(role_of(llama, 0)), [pack([row])])
    mine = gradients(llama)
    logits = llama(torch.tensor(row.ids)[None]).logits[0, :-1]
    labels = torch.tensor(np.where(row.supervised, row.ids, -100))[1:]
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    same_gradients(llama, mine)


def test_causal_lm_names_the_row_that_it_cannot_use(tokenizer):
    wrong = Example("w", {"prompt": "x", "chosen": "y"}, Origin("w.jsonl", 7))
    with pytest.raises(DataError, match="'w' has the parts prompt, chosen") as caught:
        CausalLM().encode(wrong, Encoding(tokenizer, max_length=64))
    assert caught.value.problems[0].where == "w.jsonl:7"


# ---- classify --------------------------------------------------------------------------------------------------------

TEXTS = ("thin plates", "the varnish of summer", "new strings, please", "bridge", "a wolf", "the moon listened anyway")
LABELS = ("wood", "wood", "strings", "wood", "animals", "strings")


def labeled(labels=LABELS) -> list[Example]:
    return [
        Example(f"r{i}", {"text": text}, Origin("r.csv", i + 2), label)
        for i, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
    ]


def encoded(objective: Classify, tokenizer, examples: list[Example]) -> list[Row]:
    encoding = Encoding(tokenizer, max_length=64, facts=objective.survey(examples))
    return [row for example in examples for row in objective.encode(example, encoding)]


def logits_of(model, rows: list[Row]) -> torch.Tensor:
    """[S, C] from the stock forward, one row at a time."""
    return torch.cat([model(torch.tensor(row.ids)[None]).logits for row in rows])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_classify_is_torchs_weighted_cross_entropy(bert, tokenizer, weights, smoothing):
    """The weighted mean: sum of weight * loss over the sum of weights, as torch divides it without smoothing.

    With smoothing torch weighs each class's share of the smooth target by that class's weight; ours weighs the row.
    """
    objective = Classify(class_weights=weights, label_smoothing=smoothing)
    rows = encoded(objective, tokenizer, labeled())
    step = accumulate(objective, (), Models(role_of(bert, 0)), [pack(rows[:2]), pack(rows[2:])])
    mine = gradients(bert)
    classes = np.array(sorted(set(LABELS)))
    labels = torch.tensor([int(np.flatnonzero(classes == label)[0]) for label in LABELS])
    balance = (
        compute_class_weight("balanced", classes=classes, y=np.array(LABELS)) if weights == "balanced" else np.ones(3)
    )
    weight = torch.tensor(balance, dtype=torch.float32)
    logits = logits_of(bert, rows)
    if smoothing == 0.0:
        loss = F.cross_entropy(logits, labels, weight=weight)
    else:
        each = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        loss = (weight[labels] * each).sum() / weight[labels].sum()
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    same_gradients(bert, mine)


def test_balanced_weights_are_scikit_learns():
    facts = Classify(class_weights="balanced").survey(labeled())
    classes = np.array(facts["classes"])
    assert classes.tolist() == sorted(set(LABELS))
    expected = compute_class_weight("balanced", classes=classes, y=np.array(LABELS))
    assert list(facts["class_weights"].values()) == pytest.approx(expected.tolist())
    assert set(Classify().survey(labeled())["class_weights"].values()) == {1.0}


def test_several_labels_are_torchs_binary_cross_entropy(tokenizer):
    several = (("wood",), ("wood", "strings"), (), ("animals",), ("strings",), ("animals", "wood"))
    objective = Classify()
    rows = encoded(objective, tokenizer, labeled(several))
    bert = make_bert()
    step = accumulate(objective, (), Models(role_of(bert, 0)), [pack(rows)])
    mine = gradients(bert)
    classes = sorted(set(LABELS))
    gold = torch.tensor([[float(name in labels) for name in classes] for labels in several])
    loss = F.binary_cross_entropy_with_logits(logits_of(bert, rows), gold, reduction="sum") / len(several)
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    same_gradients(bert, mine)


def test_balanced_weights_of_several_labels_are_scikit_learns_for_each(bert, tokenizer):
    several = (("wood",), ("wood", "strings"), ("wood",), ("animals", "wood"), ("strings",), ("wood",))
    objective = Classify(class_weights="balanced")
    rows = encoded(objective, tokenizer, labeled(several))
    step = accumulate(objective, (), Models(role_of(bert, 0)), [pack(rows[:4]), pack(rows[4:])])
    mine = gradients(bert)
    classes = sorted(set(LABELS))
    gold = np.array([[name in labels for name in classes] for labels in several])
    sides = [compute_class_weight("balanced", classes=np.array([False, True]), y=column) for column in gold.T]
    weight = torch.tensor([[sides[c][int(given)] for c, given in enumerate(row)] for row in gold], dtype=torch.float32)
    assert weight.unique().numel() > 3
    logits = logits_of(bert, rows)
    target = torch.tensor(gold, dtype=torch.float32)
    loss = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum") / len(several)
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    same_gradients(bert, mine)


def test_smoothed_binary_labels_go_half_the_way_to_even_odds(bert, tokenizer):
    several = (("wood",), ("wood", "strings"), (), ("animals",), ("strings",), ())
    objective = Classify(label_smoothing=0.1)
    rows = encoded(objective, tokenizer, labeled(several))
    gold = torch.tensor([[0.95 if name in labels else 0.05 for name in sorted(set(LABELS))] for labels in several])
    with torch.no_grad():
        loss = F.binary_cross_entropy_with_logits(logits_of(bert, rows), gold, reduction="sum") / len(several)
    assert mean_loss(objective, Models(role_of(bert, 0)), [pack(rows)]) == pytest.approx(loss.item(), rel=1e-6)


def test_class_names_that_training_does_not_know_are_refused_with_the_nearest(tokenizer):
    encoding = Encoding(tokenizer, max_length=64, facts=Classify().survey(labeled()))
    wrong = Example("t", {"text": "x"}, Origin("test.csv", 9), "string")
    with pytest.raises(DataError, match="the class 'string' does not occur") as caught:
        Classify().encode(wrong, encoding)
    assert "'strings'" in str(caught.value.problems[0].expected)
    with pytest.raises(DataError, match="has no label"):
        Classify().encode(Example("n", {"text": "x"}, Origin("test.csv", 9)), encoding)
    with pytest.raises(DataError, match="holds 1 class, 'wood'"):
        Classify().survey(labeled(("wood",) * 6))


def test_losses_hold_in_float64(tokenizer):
    """The arithmetic, not the rounding: with a model in float64 the loss agrees to its norms' float32 casts."""
    model = make_llama().double()
    objective = CausalLM()
    (row,) = objective.encode(CONVERSATION, Encoding(tokenizer, max_length=256))
    step = accumulate(objective, (), Models(role_of(model, 0)), [pack([row])])
    labels = torch.tensor(np.where(row.supervised, row.ids, -100))[None]
    assert step.loss == pytest.approx(model(torch.tensor(row.ids)[None], labels=labels).loss.item(), rel=5e-7)
