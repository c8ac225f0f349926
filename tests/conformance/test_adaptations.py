"""What every adaptation keeps, with every objective and on every kind of model that it goes together with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conformance.compositions import Composition, answers, compositions, page, train
from conformance.world import KINDS, meet, settings
from safetensors.torch import load_file, save_file

from luthier.core.errors import ModelError
from luthier.models.roles import role_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compositions.md"


def cases() -> list[Composition]:
    """What composes: every adaptation in its defaults and its example."""
    objectives = list(
        {composition.objective.component_name(): composition.objective for composition in compositions()}.values()
    )
    return [
        Composition(objective, adaptation, kind)
        for kind in KINDS
        for objective in objectives
        if meet(kind, objective.task)
        for _, adaptation in settings("adaptations")
    ]


@pytest.fixture(params=[pytest.param(one, id=f"{number}-{one}") for number, one in enumerate(cases())])
def one(request) -> Composition:
    return request.param


def test_an_adaptation_keeps_its_word(one: Composition, tmp_path: Path):
    """One pass through its life: applied without effect, trained in its groups alone, saved, loaded, merged."""
    if one.refusal() is not None:
        return  # docs/compositions.md has the reasons
    # Adapters begin in random numbers; of a narrow one that reads few tokens, some draws leave every unit at zero.
    torch.manual_seed(1)
    task = one.task()
    loaded = one.load(task)
    pad = loaded.tokenizer.pad_token_id
    before = None if one.adaptation.solved else answers(role_of(loaded.model, pad), task)
    model = one.adapted(loaded)
    first = answers(role_of(model, pad), task)
    if before is None:  # what is to be found replaces a head, and says nothing yet
        before = first
    assert torch.equal(first, before) == one.adaptation.begins_at_base, "step 0 differs from the base"

    groups = one.adaptation.groups(model)
    named = [name for group in groups for name, _ in group.parameters]
    parameters = dict(model.named_parameters())
    assert len(set(named)) == len(named) > 0
    assert set(named) == {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert all(parameter is parameters[name] for group in groups for name, parameter in group.parameters)
    assert [group.name for group in one.adaptation.groups(model)] == [group.name for group in groups]

    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    losses = train(model, pad, one.adaptation, task)
    assert losses[-1] < losses[0] or not one.adaptation.fits
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, start[name])}
    assert still == set(parameters) - set(named), "what is named moves, and nothing else"

    tuned = answers(role_of(model, pad), task)
    assert not torch.equal(tuned, before)
    one.adaptation.save(model, tmp_path / "saved")
    fresh = one.load(task)
    again = one.adapted(fresh)
    one.adaptation.load(again, tmp_path / "saved")
    assert torch.equal(answers(role_of(again, pad), task), tuned), "what was loaded differs from what was saved"
    one.adaptation.save(again, tmp_path / "twice")
    for file in (tmp_path / "saved").iterdir():
        assert file.read_bytes() == (tmp_path / "twice" / file.name).read_bytes(), f"{file.name} differs in its bytes"

    merged = merged_of(one, model)
    if isinstance(merged, ModelError):
        assert all(problem.remedy for problem in merged.problems)
    else:
        torch.testing.assert_close(answers(role_of(merged, pad), task), tuned, rtol=0, atol=2e-5)
        plain = dict(one.load(task).model.named_parameters())
        assert {name: p.shape for name, p in merged.named_parameters()} == {name: p.shape for name, p in plain.items()}


def merged_of(one: Composition, model: torch.nn.Module) -> torch.nn.Module | ModelError:
    """The plain model, or why there is none."""
    try:
        return one.adaptation.merge(model)
    except ModelError as refusal:
        return refusal


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "absent"])
@pytest.mark.parametrize("adaptation", [pytest.param(a, id=n) for n, a in settings("adaptations")])
def test_an_adaptation_loads_strictly(adaptation, change, tmp_path: Path):
    """On the encoder with a head, where every adaptation that composes with anything composes."""
    one = next(c for c in cases() if c.adaptation == adaptation and c.refusal() is None)
    model = adaptation.apply(one.load(one.task()).model)
    adaptation.save(model, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    tensors = load_file(file)
    first = sorted(tensors)[0]
    if change == "missing":
        del tensors[first]
    elif change == "unexpected":
        tensors["surplus.weight"] = torch.zeros(2)
    elif change == "shape":
        tensors[first] = torch.zeros(*tensors[first].shape, 2)
    save_file(tensors, file)
    if change == "absent":
        file.unlink()
    with pytest.raises(ModelError) as caught:
        adaptation.load(model, tmp_path)
    assert caught.value.problems[0].where or caught.value.problems[0].remedy


@pytest.mark.slow
def test_the_page_of_compositions_is_what_the_suite_finds():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tools/write_compositions.py"
