"""Rows that branch: positions, sums by branch, the plain sequences they stand for, and a model's answers to both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import make_bert, make_llama

from luthier.core.contracts import Batch, Row
from luthier.functional import branches, pack_plan
from luthier.functional.branches import (
    attended,
    branch_counts,
    branch_grid,
    branch_index,
    branch_sums,
    only_branch,
    unshared,
)
from luthier.functional.packing import pack
from luthier.models.recompute import recompute
from luthier.models.roles import Role, role_of


def row(name: str, ids: list[int], marks: str, *branches: int) -> Row:
    return Row(name, np.array(ids), np.array([mark == "x" for mark in marks]), branches=branches)


ROWS = (row("a", [5, 6, 7, 8, 9, 7, 10], "...xx.x", 3, 2), row("b", [11, 12, 11, 13, 14, 11, 15], ".x.xx.x", 2, 3, 2))
"""5 6 | 7 8 9 | 7 10, and 11 12 | 11 13 14 | 11 15 with nothing shared."""


def test_each_branch_goes_on_from_what_is_shared() -> None:
    batch = pack(ROWS)
    assert batch.size == 2
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 2, 3, 0, 1, 0, 1, 2, 0, 1]
    assert batch.branches is not None
    assert batch.branches.tolist() == [[0, 2], [0, 5], [1, 7], [1, 9], [1, 12]]
    assert branch_index(batch).tolist() == [0] * 5 + [1] * 2 + [2] * 2 + [3] * 3 + [4] * 2
    assert branch_counts(batch).tolist() == [2, 1, 1, 2, 1]
    values = torch.tensor([1.0, 2, 4, 8, 16, 32, 64])
    assert branch_sums(values, batch).tolist() == [3, 4, 8, 48, 64]
    grid, there = branch_grid(branch_sums(values, batch), batch)
    assert grid.tolist() == [[3, 4, 0], [8, 48, 64]]
    assert there.tolist() == [[True, True, False], [True, True, True]]


def test_branches_stand_for_plain_sequences() -> None:
    plain, places = unshared(pack(ROWS))
    cut = torch.split(plain.ids, plain.starts.diff().tolist())
    assert [ids.tolist() for ids in cut] == [[5, 6, 7, 8, 9], [5, 6, 7, 10], [11, 12], [11, 13, 14], [11, 15]]
    assert torch.equal(pack(ROWS).ids[places], plain.ids)
    assert plain.positions.tolist() == [*range(5), *range(4), *range(2), *range(3), *range(2)]
    assert plain.rows == ("a", "a", "b", "b", "b")
    assert plain.branches is None
    pairs = pack([ROWS[0], replace(ROWS[0], id="c")])
    second = only_branch(pairs, 1)
    assert second.ids.tolist() == [5, 6, 7, 10] * 2
    assert second.starts.tolist() == [0, 4, 8]
    assert second.supervised.tolist() == [False, False, False, True] * 2
    assert second.rows == ("a", "c")


@pytest.mark.parametrize(
    "wrong",
    [
        row("first", [5, 6, 7], "..x", 1, 1),
        row("shared", [5, 6, 7, 8], ".x.x", 2),
        row("more", [5, 6, 7], "..x", 2, 2),
    ],
    ids=["first-of-a-branch", "shared-token", "more-than-there-is"],
)
def test_rows_that_no_encoder_makes_are_refused(wrong: Row) -> None:
    with pytest.raises(AssertionError, match=wrong.id):
        pack([wrong])


def trees(count: int = 5) -> list[Row]:
    """Prompts of 1 to 60 tokens with two or three answers of 1 to 40 tokens."""
    draw = np.random.default_rng(7)
    found = []
    for number in range(count):
        shared = [0, 3, 59, 20, 7][number % 5]
        lengths = draw.integers(2, 41, 2 + number % 2)
        last = int(draw.integers(4, 400))
        ids, marks = [draw.integers(4, 400, shared)], [np.zeros(shared, dtype=np.bool_)]
        for length in lengths:
            ids.append(np.array([last, *draw.integers(4, 400, length - 1)]))
            marks.append(np.arange(length) > 0)
        found.append(
            Row(f"r{number}", np.concatenate(ids), np.concatenate(marks), branches=tuple(int(n) for n in lengths))
        )
    return found


def gradients(role: Role, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    role.model.zero_grad()
    logps = role.logps(batch)
    (logps * torch.linspace(-1, 1, len(logps))).sum().backward()
    return logps.detach(), {name: p.grad.clone() for name, p in role.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("way", ["padded", "copies", "some of each", "no copies", "no copies in blocks"])
@pytest.mark.parametrize("window", [None, 9], ids=["all", "window"])
def test_a_model_says_of_branches_what_it_says_of_plain_sequences(
    way: str, window: int | None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Log-probabilities and gradients: what is shared is seen by each branch, and learns from all of them."""
    monkeypatch.setattr(branches, "_WORTH", {"copies": 0.0, "some of each": 1.0}.get(way, 1e9))
    if way == "no copies in blocks":
        monkeypatch.setattr(pack_plan, "BLOCK", 16)
    pack_plan.plan_of.cache_clear()
    request.addfinalizer(pack_plan.plan_of.cache_clear)
    if window is None:
        model = make_llama()
    else:
        from transformers import MistralConfig, MistralForCausalLM

        torch.manual_seed(0)
        model = MistralForCausalLM(
            MistralConfig(
                vocab_size=400,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                sliding_window=window,
                pad_token_id=0,
            )
        ).eval()
    role = role_of(model, 0)
    assert role.packed
    batch = pack(trees())
    plain, _ = unshared(batch)
    laid = attended(batch)
    whole = sum(map(bool, laid.branches))
    assert (whole == 0, whole == 5, laid.places is None) == {
        "copies": (True, False, False),
        "some of each": (False, False, False),
    }.get(way, (False, True, True))
    wanted, theirs = gradients(role, plain)
    found, ours = gradients(Role(model, 0, None) if way == "padded" else role, batch)
    torch.testing.assert_close(found, wanted, rtol=0, atol=3e-6)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=0, atol=3e-6 * float(gradient.abs().max()), msg=name)
    assert len(batch.ids) < len(plain.ids)


def test_many_branches_behind_a_long_beginning_are_one_sequence() -> None:
    """77 classes behind 200 tokens: the scores of 277 tokens' blocks, not 77 times those of 201. Few and long answers
    behind a short prompt stay copies; a row with one branch is a plain sequence.
    """

    def of(shared: int, *lengths: int) -> Row:
        ids = np.arange(4, 4 + shared + sum(lengths))
        return Row("r", ids, np.zeros(len(ids), dtype=np.bool_), branches=lengths)

    many = attended(pack([of(200, *[1] * 77)]))
    assert (many.starts.tolist(), many.places, many.branches) == ([0, 277], None, ((1,) * 77,))
    few = attended(pack([of(9, *[100] * 4), of(30, 20)]))
    assert few.starts.tolist() == [0, 109, 218, 327, 436, 486]
    assert few.branches == ((),) * 5
    assert few.places is not None
    assert few.places[-50:].tolist() == list(range(409, 459))


def test_an_encoder_shares_nothing() -> None:
    """Its beginning sees what follows: each branch goes through it alone, and is pooled for itself."""
    model = make_bert(labels=1)
    role = role_of(model, 0)
    assert role.packed
    plain, _ = unshared(pack(trees()))
    with torch.no_grad():
        found, wanted = role.class_logits(pack(trees())), role.class_logits(plain)
    assert found.shape == (12, 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert len(set(found[:, 0].tolist())) == 12


def test_a_decoders_head_reads_the_end_of_each_branch() -> None:
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(0)
    config = make_llama().config
    config.num_labels = 1
    model = LlamaForSequenceClassification(config).eval()
    role = role_of(model, 0)
    assert role.packed
    plain, _ = unshared(pack(trees()))
    with torch.no_grad():
        found, wanted = role.class_logits(pack(trees())), role.class_logits(plain)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert len(set(found[:, 0].tolist())) == 12


def test_a_branch_does_not_feel_its_siblings() -> None:
    role = role_of(make_llama(), 0)
    (one,) = trees(1)
    first, second = one.branches
    changed = one.ids.copy()
    changed[:first] = changed[:first][::-1].copy()
    with torch.no_grad():
        before, after = (role.logps(pack([replace(one, ids=ids)])) for ids in (one.ids, changed))
    kept = second - 1
    assert torch.equal(before[-kept:], after[-kept:])
    assert not torch.equal(before[:-kept], after[:-kept])


def test_blocks_that_are_computed_again_keep_the_branches() -> None:
    role = role_of(make_llama(), 0)
    role.model.train()
    once = gradients(role, pack(trees()))
    recompute(role.model)
    again = gradients(role, pack(trees()))
    assert torch.equal(once[0], again[0])
    assert all(torch.equal(gradient, again[1][name]) for name, gradient in once[1].items())
