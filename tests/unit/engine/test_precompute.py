"""What a reference says of the rows: asked once, kept by model and row, and the policy itself before its first step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conformance.world import CPU, Task, examples, load, settings, tokenizer_of
from tiny import make_llama

from luthier.core.component import build
from luthier.core.contracts import Adaptation, Batch, Objective, Row
from luthier.core.errors import ModelError
from luthier.data.encode import Encoding, encode_all
from luthier.engine.precompute import precompute
from luthier.engine.step import accumulate, measure
from luthier.functional.packing import pack
from luthier.models.roles import Models, Role, role_of


def objective_of(value: object) -> Objective:
    found = build("objectives", value)
    assert isinstance(found, Objective)
    return found


DPO, KTO = objective_of("dpo"), objective_of("kto")


def rows_of(objective: Objective, count: int = 6) -> list[Row]:
    """Rows that nobody was asked about yet."""
    encoding = Encoding(tokenizer_of(), max_length=128)
    rows = encode_all(objective, examples(sorted(objective.needs)[0], count), encoding)
    return objective.complete(rows, seed=1)


class Counted:
    """A role that counts the tokens that it was asked about."""

    def __init__(self, role: Role) -> None:
        self.role, self.model, self.asked = role, role.model, 0

    def logps(self, batch: Batch, smoothing: float = 0.0, *, alike: bool = False) -> torch.Tensor:
        self.asked += len(batch.ids)
        assert not self.model.training
        assert not torch.is_grad_enabled()
        return self.role.logps(batch, smoothing, alike=alike)


def asked(rows: Sequence[Row], file: Path | None, seed: int = 0, policy: Role | None = None) -> tuple[list[Row], int]:
    role = Counted(policy or role_of(make_llama(seed=seed), 0))
    role.model.train()
    found = precompute(DPO, role, rows, device=CPU, micro_tokens=64, file=file)
    assert role.model.training
    return found, role.asked


def same(found: Sequence[Row], wanted: Sequence[Row]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all((one.fields["reference"] == other.fields["reference"]).all() for one, other in pairs)


def test_rows_are_asked_about_once(tmp_path: Path) -> None:
    rows, file = rows_of(DPO), tmp_path / "reference.safetensors"
    first, tokens = asked(rows, file)
    assert tokens == sum(len(row.ids) for row in rows)
    direct = role_of(make_llama(), 0).logps(pack([rows[2]])).detach()
    mine = first[2].fields["reference"]
    assert mine.shape == (2,)
    assert mine.sum() == pytest.approx(float(direct.sum()), abs=1e-4)

    again, none = asked(list(reversed(rows)), file)
    assert none == 0, "kept by row, in whatever order"
    assert same(list(reversed(again)), first)
    changed = replace(rows[0], ids=rows[0].ids[::-1].copy())
    _, some = asked([*rows, changed], file)
    assert some == len(changed.ids), "only what is new is asked about"
    _, every = asked(rows, file, seed=1)
    assert every == tokens, "another model has another opinion"


def over_few_bits(bits: str, factor: float) -> Role:
    """A policy that has not learned yet, over a base of which one matrix inside a block is larger by a factor."""
    model = make_llama()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(factor)
    adaptation = build("adaptations", {"lora": {"rank": 2, "base": bits}})
    assert isinstance(adaptation, Adaptation)
    torch.manual_seed(0)
    return role_of(adaptation.apply(model), 0)


def test_a_base_in_few_bits_is_known_by_its_matrices(tmp_path: Path) -> None:
    """They are no parameters, and what a phase before has changed may be in them alone."""
    rows, file = rows_of(DPO), tmp_path / "reference.safetensors"
    _, tokens = asked(rows, file, policy=over_few_bits("int8", 1.0))
    assert asked(rows, file, policy=over_few_bits("int8", 1.0))[1] == 0
    for bits, factor in (("int8", 2.0), ("int4", 2.0)):
        assert asked(rows, file, policy=over_few_bits(bits, factor))[1] == tokens


def test_a_torn_file_is_asked_again(tmp_path: Path) -> None:
    rows, file = rows_of(DPO), tmp_path / "reference.safetensors"
    first, tokens = asked(rows, file)
    file.write_bytes(file.read_bytes()[:100])
    again, every = asked(rows, file)
    assert every == tokens
    assert same(again, first)


def test_an_objective_without_roles_asks_nobody() -> None:
    rows = rows_of(objective_of("orpo"))
    role = Counted(role_of(make_llama(), 0))
    assert precompute(objective_of("orpo"), role, rows, device=CPU, micro_tokens=64) == rows
    assert role.asked == 0


@pytest.mark.parametrize("name", ["dpo", "ipo", "kto"])
@pytest.mark.parametrize(
    "adaptation", [pytest.param(one, id=name) for name, one in settings("adaptations") if isinstance(one, Adaptation)]
)
def test_the_first_step_is_the_identity(name: str, adaptation: Adaptation) -> None:
    """The margin is 0, whatever the adaptation trains: ln 2 (DPO), 1 / (4 tau^2) (IPO), 1/2 (KTO)."""
    objective = objective_of(name)
    loaded = load("llama", "causal_lm", {})
    try:
        model = adaptation.apply(loaded.model)
    except ModelError:
        return  # docs/compositions.md has the reasons
    role = role_of(model, 0)
    rows = precompute(objective, role, rows_of(objective), device=CPU, micro_tokens=64)
    step = accumulate(objective, (), Models(role), [pack(rows[:2]), pack(rows[2:])])
    wanted = {"dpo": math.log(2), "ipo": 25.0, "kto": 0.5}[name]
    assert step.loss == pytest.approx(wanted, rel=1e-6)
    assert step.figures["margin"] == pytest.approx(0, abs=1e-6)


def test_the_drift_of_a_step_is_of_all_its_rows() -> None:
    """One that moved: the loss is that of one big batch, however it is cut, and the baseline learns nothing."""
    reference, policy = role_of(make_llama(), 0), role_of(make_llama(seed=1), 0)
    rows = precompute(KTO, reference, rows_of(KTO), device=CPU, micro_tokens=64)
    losses, gradients = [], []
    for cuts in ([rows], [rows[:1], rows[1:3], rows[3:]]):
        policy.model.zero_grad()
        step = accumulate(KTO, (), Models(policy), [pack(part) for part in cuts])
        losses.append(step.loss)
        assert step.figures["baseline"] > 0.005
        gradients.append(torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


def test_answers_are_mismatched_with_those_to_other_prompts() -> None:
    """Each row keeps its own answer, gets another row's, and the same one again with the same seed."""
    encoding = Encoding(tokenizer_of(), max_length=128)
    plain = encode_all(KTO, examples("completion", 6), encoding)
    twice = [*plain, *(replace(row, id=f"{row.id} again") for row in plain)]
    rows = KTO.complete(twice, seed=3)
    assert [row.ids.tolist() for row in rows] == [row.ids.tolist() for row in KTO.complete(twice, seed=3)]
    assert [row.ids.tolist() for row in rows] != [row.ids.tolist() for row in KTO.complete(twice, seed=4)]
    own = {tuple(row.ids[len(row.ids) - row.branches[0] + 1 :]) for row in plain}
    for row, before in zip(rows, twice, strict=True):
        first, second = row.branches
        assert row.ids[: len(before.ids)].tolist() == before.ids.tolist()
        assert first == before.branches[0]
        strange = tuple(row.ids[len(row.ids) - second + 1 :])
        assert any(strange == answer[: len(strange)] for answer in own)
        assert strange != tuple(before.ids[len(before.ids) - first + 1 :])
        assert len(row.ids) - first <= max(len(other.ids) for other in twice)


def test_figures_of_rows_are_means_by_weight() -> None:
    task = Task.of(DPO)
    models = Models(role_of(make_llama(seed=1), 0))
    whole = measure(DPO, models, [task.batch(0, weight=3.0), task.batch(1, weight=1.0)]).figures
    one, other = (measure(DPO, models, [task.batch(index)]).figures for index in (0, 1))
    assert set(whole) == {"reward_chosen", "reward_rejected", "margin", "accuracy", "tokens_chosen", "tokens_rejected"}
    for name, value in whole.items():
        assert value == pytest.approx((3 * one[name] + other[name]) / 4, rel=1e-5, abs=1e-6)
