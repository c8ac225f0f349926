"""States of inner layers: what cannot be heard is refused before anything is trained; maps only between widths."""

from __future__ import annotations

import pytest
import torch
from small_runs import uneven_rows
from tiny import make_llama

from luthier.core.errors import ModelError
from luthier.functional.packing import pack
from luthier.models.prompt import attach_prompt
from luthier.models.roles import Models, role_of
from luthier.models.states import apart, hearing, projections


def models_of(student: torch.nn.Module, teacher: torch.nn.Module) -> Models:
    return Models(role_of(student, 0), {"teacher": role_of(teacher, 0)})


def test_a_trained_prompt_and_layers_that_are_not_there_are_refused() -> None:
    plain = models_of(make_llama(), make_llama(num_hidden_layers=3))
    assert projections(plain, ()) is None
    assert projections(plain, ((1, 2),)) is None, "as wide as the teacher"
    with pytest.raises(ModelError, match="the student has 2 layers, 0 to 1, and layer 2"):
        projections(plain, ((2, 2),))
    with pytest.raises(ModelError, match="the teacher has 3 layers"):
        projections(plain, ((0, 0), (1, 3)))
    prompted = models_of(attach_prompt(make_llama(), 3), make_llama())
    with pytest.raises(ModelError, match="the student has a trained prompt"):
        projections(prompted, ((0, 0),))


def test_nothing_listens_any_more_once_a_verb_has_run() -> None:
    model, batch = make_llama(), pack(uneven_rows(6))
    role = role_of(model, 0)
    with hearing(model, batch, [0, 1, 0]) as heard:
        role.logps(batch)
    first = heard.at(0)
    assert first.shape == heard.at(1).shape == (len(batch.ids), 32)
    role.logps(pack(uneven_rows(9)))
    assert heard.at(0) is not None
    assert torch.equal(heard.at(0), first)
    with pytest.raises(KeyError):
        heard.at(2)


def test_a_model_is_at_no_distance_from_itself_and_without_pairs_nobody_is_asked() -> None:
    model, batch = make_llama(), pack(uneven_rows(6))
    models = models_of(model, model)
    with apart(models, batch, ((0, 0), (1, 1)), "squared") as between:
        models.policy.logps(batch)
    assert float(between().detach().abs().max()) < 1e-10
    with apart(Models(models.policy), batch, (), "squared") as nothing:
        models.policy.logps(batch)
    assert nothing().shape == (len(batch.ids),)
