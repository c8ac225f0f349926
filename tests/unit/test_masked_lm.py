"""What masked_lm hides: as many as asked for, in the published shares, whole words, anew in each epoch, and never by
chance twice otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import text_records
from tiny import make_bert, make_tokenizer
from transformers import BertForMaskedLM

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.errors import DataError, Interrupted, RecipeError
from luthier.core.example import Example, Origin
from luthier.core.recipe import Phase
from luthier.data.encode import Encoding
from luthier.engine.fit import Fit, fit
from luthier.models.roles import Models, role_of

LONG = "The luthier keeps the plates thin and the varnish thinner, and a violin remembers the hands that made it. " * 40


def encoding(max_length: int = 4096) -> Encoding:
    tokenizer = make_tokenizer()
    tokenizer.mask_token = "<|endoftext|>"
    return Encoding(tokenizer, max_length=max_length)


def example(text: str = LONG, name: str = "a") -> Example:
    return Example(name, {"text": text}, Origin("a", 1))


def objective(**settings: Any) -> Any:
    return build("objectives", {"masked_lm": settings})


def hidden(row: Row) -> np.ndarray:
    return np.flatnonzero(row.supervised)


def test_the_published_shares() -> None:
    given = encoding()
    (row,) = objective().encode(example(), given)
    renew = objective().renewal(given, 1)
    rows = [renew(row, epoch) for epoch in range(60)]
    size = len(row.ids)
    assert {len(hidden(one)) for one in rows} == {round(0.15 * size)}
    ids = np.concatenate([one.ids[one.supervised] for one in rows])
    plain = np.concatenate([one.targets[one.supervised] for one in rows])
    masked, kept = ids == given.tokenizer.mask_token_id, ids == plain
    assert masked.mean() == pytest.approx(0.8, abs=0.02)
    assert kept.mean() == pytest.approx(0.1, abs=0.02)
    assert not np.isin(ids[~masked], given.tokenizer.all_special_ids).any()
    chances = np.bincount(np.concatenate([hidden(one) for one in rows]), minlength=size) / 60
    assert chances.max() < 0.45, "every place has its chance"
    for one in rows:
        outside = ~one.supervised
        np.testing.assert_array_equal(one.ids[outside], one.targets[outside])


def test_masks_are_a_function_of_seed_epoch_and_row() -> None:
    given = encoding()
    (row,) = objective().encode(example(), given)

    def drawn(seed: int, epoch: int, name: str = "a") -> list[int]:
        return objective().renewal(encoding(), seed)(replace(row, id=name), epoch).ids.tolist()

    assert drawn(1, 0) == drawn(1, 0)
    assert len({str(x) for x in (drawn(1, 0), drawn(1, 1), drawn(2, 0), drawn(1, 0, "b"))}) == 4
    renewed = objective().renewal(given, 1)(row, 3)
    assert objective().renewal(given, 1)(renewed, 0).ids.tolist() == drawn(1, 0), "whatever was hidden before"
    assert objective().encode(example(), given)[0].ids.tolist() == row.ids.tolist(), "what is measured stays"


def test_whole_words_are_hidden_together() -> None:
    given = encoding()
    (row,) = objective(whole_words=True).encode(example(), given)
    tokens = given.tokenizer.convert_ids_to_tokens(row.targets)
    begins = [not token[:1].isalnum() or place == 0 for place, token in enumerate(tokens)]
    words = np.cumsum(begins)
    assert max(np.bincount(words)) > 1, "some words have several tokens"
    for word in set(words[row.supervised]):
        assert row.supervised[words == word].all()
    assert 0 < row.supervised.sum() <= round(0.15 * len(row.ids))


def test_a_short_row_hides_one_and_special_tokens_none() -> None:
    given = encoding()
    (row,) = objective().encode(example("Moon."), given)
    assert row.supervised.sum() == 1
    framed = Row("a", np.array([1, 7, 8, 2]), np.zeros(4, dtype=np.bool_), targets=np.array([-1, 7, 8, -1]))
    renew = objective(share=0.9).renewal(given, 1)
    for epoch in range(20):
        made = renew(framed, epoch)
        assert hidden(made).tolist() == [1, 2]
        assert made.ids[[0, 3]].tolist() == [1, 2]


def test_without_a_mask_token_it_is_refused() -> None:
    with pytest.raises(DataError, match="no mask token"):
        objective().encode(example(), Encoding(make_tokenizer(), max_length=64))
    with pytest.raises(RecipeError, match=r"masked and replaced are 1\.1 together"):
        objective(masked=0.9, replaced=0.2)


def test_a_stopped_fit_goes_on_with_the_same_masks(tmp_path: Path) -> None:
    """Stopped in the second of three epochs: the weights in the end are those of the fit that nothing stopped."""
    given, one = encoding(64), objective()
    rows = [
        row
        for number, record in enumerate(text_records(12))
        for row in one.encode(example(record["text"], str(number)), given)
    ]
    phase = Phase.model_validate({"objective": one, "epochs": 3, "per_step": {"rows": 4}, "checkpoints": {"every": 1}})

    def job(folder: Path, **changes: Any) -> Fit:
        torch.manual_seed(0)
        model = BertForMaskedLM(make_bert().config)
        models = Models(role_of(phase.adaptation.apply(model), 0))
        renewal = one.renewal(given, 1)
        return Fit(models, one, phase.adaptation, phase, rows, renewal=renewal, folder=folder, **changes)

    whole = job(tmp_path / "whole")
    straight = fit(whole)
    asked = iter(range(99))
    with pytest.raises(Interrupted):
        fit(job(tmp_path / "cut", stop=lambda: next(asked) == 3))
    cut = job(tmp_path / "cut")
    assert straight.losses[4:] == fit(cut).losses
    mine, theirs = (job.models.policy.model.state_dict() for job in (whole, cut))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    still = fit(replace(job(tmp_path / "still"), renewal=None))
    assert still.losses != straight.losses, "masks were drawn anew"
