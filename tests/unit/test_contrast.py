"""Contrastive learning against sentence-transformers, and the two passes against the one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import label_records, lm_recipe, write_jsonl
from tiny import make_bert

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin
from luthier.data.encode import Encoding, encode_all
from luthier.engine.step import accumulate, mean_loss
from luthier.functional.contrast import ranking_losses, triplet_losses
from luthier.functional.packing import pack
from luthier.models.roles import Models, role_of

WORDS = ("thin plates", "a violin and its bow", "the moon", "new strings cost 60 euros", "varnish", "a small wolf")


def pairs(count: int = 6, *, negative: bool = False) -> list[Example]:
    found = []
    for number in range(count):
        parts = {"a": WORDS[number % 6], "b": f"{number} " + WORDS[(number + 2) % 6]}
        if negative:
            parts["negative"] = f"no {number} " + WORDS[(number + 3) % 6]
        found.append(Example(f"p{number}", parts, Origin("pairs.jsonl", number + 1)))
    return found


def texts(*classes: str | None) -> list[Example]:
    places = [Origin("texts.jsonl", number + 1) for number in range(len(classes))]
    made = zip(classes, places, strict=True)
    return [Example(f"t{at.row}", {"text": f"{at.row} {WORDS[at.row % 6]}"}, at, name) for name, at in made]


def rows_of(examples: list[Example], tokenizer: Any, **settings: Any) -> list[Row]:
    objective: Any = build("objectives", {"contrast": settings})
    encoding = Encoding(tokenizer, max_length=32, facts=objective.survey(examples))
    return objective.complete(encode_all(objective, examples, encoding), seed=3)


def encoder(dropout: float = 0.0) -> Any:
    changes = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = make_bert(**changes).bert
    model.pooler = None
    return model


def slopes(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


# ---- the losses ------------------------------------------------------------------------------------------------------


def drawn(rows: int = 5, width: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors in float64 of rows with three texts each, all of other content."""
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(rows, 3, width, dtype=torch.float64, generator=generator).requires_grad_()
    there, same = torch.ones(rows, 3, dtype=torch.bool), torch.arange(3 * rows).view(rows, 3)
    return vectors, there, same, torch.ones(rows, dtype=torch.bool)


@pytest.mark.parametrize("symmetric", [False, True])
def test_ranking_is_sentence_transformers_loss_and_gradient(symmetric):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    vectors, *rest = drawn()
    ours = ranking_losses(vectors, *rest, scale=15.0, symmetric=symmetric)[0].mean()
    ways = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    peer = losses.MultipleNegativesRankingLoss(None, scale=15.0, directions=ways, partition_mode="per_direction")
    theirs = peer.compute_loss_from_embeddings(list(vectors.unbind(1)), torch.tensor(0))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, vectors)[0] for loss in (ours, theirs)))


def test_triplets_are_sentence_transformers_loss_and_gradient():
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    vectors = drawn()[0]
    ours = triplet_losses(vectors, 0.4)[0].mean()
    peer = losses.TripletLoss(None, losses.TripletDistanceMetric.COSINE, triplet_margin=0.4)
    theirs = peer.compute_loss_from_embeddings(list(vectors.unbind(1)), torch.tensor(0))
    assert ours.item() > 0
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, vectors)[0] for loss in (ours, theirs)))


def test_a_loss_worked_by_hand():
    """Cosines 1 and 0 at scale 2: ln(1 + e^-2) for each row; with a negative like the anchor, ln(2 + e^-2)."""
    unit = torch.eye(2, dtype=torch.float64)
    vectors = torch.stack([unit, unit, torch.stack([unit[0], unit[0]])], dim=1)
    there, same = torch.tensor([[True, True, False]] * 2), torch.arange(6).view(2, 3)
    counted = torch.ones(2, dtype=torch.bool)
    losses, right = ranking_losses(vectors, there, same, counted, scale=2.0)
    assert losses.tolist() == pytest.approx([np.log(1 + np.exp(-2))] * 2)
    assert right.tolist() == [1.0, 1.0]
    there[0, 2] = True
    losses, _ = ranking_losses(vectors, there, same, counted, scale=2.0)
    assert losses.tolist() == pytest.approx([np.log(2 + np.exp(-2)), np.log(1 + 2 * np.exp(-2))])


def test_texts_that_belong_together_are_no_negatives():
    vectors, there, same, counted = drawn(3)
    there[:, 2] = False
    alone = ranking_losses(vectors[:2], there[:2], same[:2], counted[:2], scale=5.0)[0]
    for place, other in ((0, same[0, 0]), (1, same[0, 1]), (1, same[0, 0])):
        alike = same.clone()
        alike[2, place] = other
        found = ranking_losses(vectors, there, alike, counted, scale=5.0)[0]
        assert float(found[0]) == pytest.approx(float(alone[0])), "the third row says what the first does"
        assert float(found[1]) > float(alone[1]), "to the second it is a negative like any other"
    counted[2] = False
    torch.testing.assert_close(ranking_losses(vectors, there, same, counted, scale=5.0)[0][:2], alone)


def test_a_text_that_another_row_pairs_with_the_anchor_is_no_negative():
    """Rows (a, x), (a, y) and (b, y): y belongs with a in whichever row it stands, and x is a negative of b alone."""
    vectors, there, _, counted = drawn(3)
    there[:, 2] = False
    same = torch.tensor([[1, 3, 0], [1, 4, 0], [2, 4, 0]])
    near = 5.0 * torch.einsum("ih,jh->ij", *torch.nn.functional.normalize(vectors, dim=-1)[:, :2].unbind(1)).detach()
    forward = torch.stack([near.new_zeros(()), near.new_zeros(()), (near[2, 0] - near[2, 2]).exp().log1p()])
    found = ranking_losses(vectors, there, same, counted, scale=5.0)[0].detach()
    torch.testing.assert_close(found, forward)
    backward = torch.stack([(near[2, 0] - near[0, 0]).exp().log1p(), near.new_zeros(()), near.new_zeros(())])
    found = ranking_losses(vectors, there, same, counted, scale=5.0, symmetric=True)[0].detach()
    torch.testing.assert_close(found, (forward + backward) / 2)


def test_of_many_rows_similarities_are_not_kept_for_the_backward_pass(monkeypatch):
    vectors, there, same, counted = drawn(200, 4)
    whole = ranking_losses(vectors, there, same, counted, scale=5.0, symmetric=True)
    (wanted,) = torch.autograd.grad(whole[0].sum(), vectors)
    monkeypatch.setattr("luthier.functional.contrast._TOGETHER", 30)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.numel()) or one, lambda one: one):
        parts = ranking_losses(vectors, there, same, counted, scale=5.0, symmetric=True)
    assert sum(kept) < 200 * 400, "fewer numbers than there are similarities"
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts[0].sum(), vectors)[0], wanted)


# ---- the objective ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"symmetric": True}, {"against": "negative", "margin": 1.5}], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_do_not_depend_on_how_the_step_is_cut(tokenizer, settings, dropout):
    """With dropout the two passes of a cut step must draw the same masks: else its loss is another one's gradient."""
    rows = rows_of(pairs(negative=True), tokenizer, **settings)
    objective: Any = build("objectives", {"contrast": settings})
    model = encoder(dropout).train()
    models = Models(role_of(model, 0))
    cut = [pack(rows[:1]), pack(rows[1:4]), pack(rows[4:])]
    torch.manual_seed(7)
    loss = accumulate(objective, (), models, cut).loss
    found = slopes(model)
    if dropout:
        # The same loss over all vectors at once, each part drawn as the objective drew it, held in one graph.
        torch.manual_seed(7)
        ready = objective.collect(models, cut)
        parts = []
        for batch in ready:
            torch.manual_seed(int(batch.fields["seed"][0]))
            parts.append(models.policy.vectors(batch).view(batch.size, 3, -1))
        vectors, weights = torch.cat(parts), torch.ones(len(rows))
        names = torch.cat([batch.fields["same"] for batch in ready])
        whole = objective._losses(vectors, torch.ones(len(rows), 3, dtype=torch.bool), names, weights)[0].mean()
        whole.backward()
        assert loss == pytest.approx(float(whole), rel=1e-6)
    else:
        assert loss == pytest.approx(accumulate(objective, (), models, [pack(rows)]).loss, rel=1e-6)
    wanted = slopes(model)
    assert found.keys() == wanted.keys()
    largest = max(float(slope.abs().max()) for slope in wanted.values())
    for name, slope in wanted.items():
        torch.testing.assert_close(found[name], slope, rtol=0, atol=3e-6 * largest, msg=name)


def test_what_is_measured_needs_one_pass(tokenizer):
    rows = rows_of(pairs(), tokenizer)
    objective: Any = build("objectives", "contrast")
    model = encoder()
    models = Models(role_of(model, 0))
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    several = mean_loss(objective, models, [pack(rows[:3]), pack(rows[3:])])
    assert len(calls) == 2
    assert several == pytest.approx(mean_loss(objective, models, [pack(rows)]), rel=1e-6)


def test_a_text_alone_is_paired_with_itself_under_another_dropout(tokenizer):
    rows = rows_of(texts(None, None, None), tokenizer)
    for row in rows:
        first, second = np.split(row.ids, 2)
        assert first.tolist() == second.tolist()
        assert row.fields["same"][0] == row.fields["same"][1]
    role = role_of(encoder(0.3).train(), 0)
    batch = pack(rows)
    torch.manual_seed(1)
    vectors = role.vectors(batch).view(3, 2, -1)
    assert bool((vectors[:, 0] != vectors[:, 1]).any(-1).all())


def test_texts_of_a_class_are_paired_within_it(tokenizer):
    examples = texts("x", "y", "x", "x", "y", "z")
    rows = rows_of(examples, tokenizer, partners=2)
    names = {row.id for row in rows}
    assert names == {"t1", "t1#2", "t2", "t3", "t3#2", "t4", "t4#2", "t5", "t6"}, "y has one other row, z none"
    plain = {row.id: row for row in rows_of(examples, tokenizer)}
    begins = {row.ids[: row.branches[0]].tobytes(): name for name, row in plain.items()}
    met = {(row.id[:2], begins[row.ids[row.branches[0] :].tobytes()]) for row in rows}
    x = {"t1", "t3", "t4"}
    assert met == {(a, b) for a in x for b in x if a != b} | {("t2", "t5"), ("t5", "t2"), ("t6", "t6")}
    assert len({int(row.fields["same"][0]) for row in rows}) == 3


def test_vectors_of_branches_are_those_of_the_texts_alone(tokenizer):
    rows = rows_of(pairs(3, negative=True), tokenizer)
    role = role_of(encoder(), 0)
    together = role.vectors(pack(rows))
    ids = [part for row in rows for part in np.split(row.ids, np.cumsum(row.branches)[:-1])]
    apart = [role.vectors(pack([Row("t", part, np.zeros(len(part), dtype=np.bool_))])) for part in ids]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("examples", "settings", "told"),
    [
        ([*pairs(2), *texts("x")], {}, "some rows are classes and some pairs"),
        ([replace(row, target=0.5) for row in pairs(2)], {}, "says of its pair: '0.5'"),
        ([replace(row, target=0.5) for row in texts("x", "y")], {}, "'t1' has a number"),
        ([replace(row, target=("x", "y")) for row in texts("x", "y")], {}, "'t1' has a list of classes"),
        (pairs(2), {"against": "negative"}, "has no negative"),
    ],
    ids=["kinds", "scored", "number", "several", "no negative"],
)
def test_rows_that_do_not_fit_are_refused(tokenizer, examples, settings, told):
    with pytest.raises(DataError, match=told):
        rows_of(examples, tokenizer, **settings)


def test_a_run_opens_in_sentence_transformers_with_the_same_vectors(bert_folder, tmp_path):
    """From labeled texts to a folder; after it a classifier starts from that body."""
    import luthier
    from luthier.models.embed import load_embedder

    data = write_jsonl(tmp_path / "rows.jsonl", label_records(24))
    changes = {"objective": "contrast", "adaptation": "full", "epochs": 1, "per_step": {"rows": 8}}
    run = luthier.run(lm_recipe(bert_folder, data, **changes), out=tmp_path / "run")
    said = ["a violin", "the longer sentence about a cello", "7"]
    ours = load_embedder(str(run.model)).embed(said)
    assert not np.allclose(ours, load_embedder(str(bert_folder)).embed(said), atol=1e-4), "it was trained"
    peer = pytest.importorskip("sentence_transformers").SentenceTransformer(str(run.model), device="cpu")
    np.testing.assert_allclose(ours, peer.encode(said), atol=2e-6)
