"""The policy's own answers: said by it as it is at the step, told of by the teacher, and a fit goes on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance.world import CPU, examples, tokenizer_of
from tiny import make_llama

from luthier.core.component import build
from luthier.core.contracts import Adaptation, Objective, Row
from luthier.core.errors import Interrupted
from luthier.core.recipe import Phase
from luthier.data.encode import Encoding, encode_all
from luthier.engine.fit import Fit, fit
from luthier.engine.own_answers import OwnAnswers
from luthier.engine.precompute import precompute
from luthier.engine.step import accumulate
from luthier.functional.packing import pack
from luthier.models.generate import generate
from luthier.models.roles import Models, role_of


class World:
    """A tiny student and its teacher, rows that the teacher was asked about, and what a fit logs."""

    def __init__(self, share: float, **changes: Any) -> None:
        value = {"teacher": "x", "top_k": 4, "on_policy": share, "max_new_tokens": 6, **changes}
        objective = build("objectives", {"distill": value})
        assert isinstance(objective, Objective)
        self.objective = objective
        adaptation = build("adaptations", "full")
        assert isinstance(adaptation, Adaptation)
        self.adaptation = adaptation
        self.encoding = Encoding(tokenizer_of(), max_length=160)
        teacher = role_of(make_llama(seed=1).requires_grad_(False), 0)
        self.models = Models(role_of(adaptation.apply(make_llama()), 0), {"teacher": teacher})
        rows = encode_all(objective, examples("messages"), self.encoding)
        self.rows: list[Row] = precompute(
            objective, self.models.policy, rows, device=CPU, micro_tokens=96, others=self.models.others
        )
        self.events: list[dict[str, Any]] = []
        self.answers = self.own(160)

    def own(self, longest: int) -> OwnAnswers:
        return OwnAnswers(
            self.objective, self.models, stop=self.encoding.stop, pad=0, longest=longest, seed=3, device=CPU
        )

    def fit(self, folder: Path | None, stop: Any = lambda: False) -> list[float]:
        phase = Phase(
            objective=self.objective,
            per_step={"rows": 2},
            epochs=2,
            optimizer={"adamw": {"lr": 1e-2}},
            checkpoints={"every": 1},
            watch={"every": 1},
        )
        job = Fit(
            models=self.models,
            objective=self.objective,
            adaptation=self.adaptation,
            phase=phase,
            rows=self.rows,
            validation=self.rows[:2],
            rollouts=self.answers,
            folder=folder,
            seed=3,
            log=lambda event, **values: self.events.append({"event": event, **values}),
            stop=stop,
        )
        return list(fit(job).losses)


def test_what_the_student_says_is_learned_up_to_what_ends_it_as_the_teacher_sees_it() -> None:
    world = World(1.0)
    found = world.answers.rows(7, lambda number: world.rows, 96)
    assert world.answers.figures["own_answers"] == 1
    stop = set(world.encoding.stop)
    for row, given in zip(found, world.rows, strict=True):
        begin = int(np.flatnonzero(given.supervised)[0])
        said = row.ids[begin:].tolist()
        assert row.ids[:begin].tolist() == given.ids[:begin].tolist()
        assert row.supervised.tolist() == [False] * begin + [True] * len(said)
        assert not stop & set(said[:-1])
        assert len(said) == 6 or said[-1] in stop, "cut, or ended by what is learned too"
        assert (row.fields["own"], given.fields["own"]) == (1, 0)
        batch = pack([row])
        with torch.no_grad():
            direct = world.objective.precompute(world.models, batch)
        for name, value in direct.items():
            torch.testing.assert_close(torch.from_numpy(row.tokens[name]), value, rtol=0, atol=1e-5)
    assert len({tuple(row.ids[-6:].tolist()) for row in found}) > 2
    again, later = (world.answers.rows(step, lambda number: world.rows, 400) for step in (7, 8))
    assert [row.ids.tolist() for row in again] == [row.ids.tolist() for row in found]
    assert [row.ids.tolist() for row in later] != [row.ids.tolist() for row in found]


def test_answers_are_drawn_as_the_policy_says_them() -> None:
    """With a policy that is sure of itself, they are its most probable ones."""
    world = World(1.0)
    with torch.no_grad():
        for parameter in world.models.policy.model.get_output_embeddings().parameters():
            parameter.mul_(60)
    found = world.answers.rows(0, lambda number: world.rows, 96)
    begins = [int(np.flatnonzero(row.supervised)[0]) for row in world.rows]
    prompts = [row.ids[:begin].tolist() for row, begin in zip(world.rows, begins, strict=True)]
    model, stop = world.models.policy.model, world.encoding.stop
    greedy = generate(model, prompts, stop=stop, pad=0, max_new_tokens=6)
    same = [
        row.ids[begin:][: len(wanted)].tolist() == wanted
        for row, begin, wanted in zip(found, begins, greedy, strict=True)
    ]
    assert sum(same) >= len(same) - 1


def test_a_share_of_the_rows_and_only_where_there_is_room() -> None:
    world = World(0.5)
    own = [sum(row.fields["own"] for row in world.answers.rows(step, lambda n: world.rows, 96)) for step in range(40)]
    assert 90 <= sum(own) <= 150, "of 240"
    assert len(set(own)) > 2
    shortest = min(int(np.flatnonzero(row.supervised)[0]) for row in world.rows)
    narrow = World(1.0).own(shortest + 6)
    kept = narrow.rows(0, lambda number: world.rows, 96)
    assert 0 < sum(row.fields["own"] for row in kept) < len(kept)
    assert World(1.0).own(10).rows(0, lambda number: world.rows, 96) == world.rows


def test_rows_are_as_long_as_the_teacher_takes_them() -> None:
    """The student has 512 positions, and rows 160; the teacher fewer: what it cannot read is not written."""
    world = World(1.0)
    begins = sorted(int(np.flatnonzero(row.supervised)[0]) for row in world.rows)
    most = begins[len(begins) // 2] + 6
    teacher = role_of(make_llama(seed=1, max_position_embeddings=most).requires_grad_(False), 0)
    world.models = Models(world.models.policy, {"teacher": teacher})
    found = world.own(160).rows(0, lambda number: world.rows, 96)
    own = [row for row in found if row.fields["own"]]
    assert 0 < len(own) < len(found)
    assert max(len(row.ids) for row in own) <= most


def test_own_answers_have_no_labels() -> None:
    """The labels' loss is that of the rows' own answers, over their tokens; the distance is over all."""
    world = World(1.0, hard=0.25, temperature=1.0)
    own, given = world.answers.rows(0, lambda number: world.rows[:2], 96), world.rows[2:4]
    step = accumulate(world.objective, (), world.models, [pack(own), pack(given)])
    plain = accumulate(world.objective, (), world.models, [pack(given)])
    assert step.terms["nll"] == pytest.approx(plain.terms["nll"], rel=1e-6)
    alone = accumulate(world.objective, (), world.models, [pack(own)])
    assert alone.terms["nll"] == 0
    counts = [sum(int(row.supervised.sum()) for row in rows) for rows in (own, given)]
    mean = np.average([alone.terms["divergence"], plain.terms["divergence"]], weights=counts)
    assert step.terms["divergence"] == pytest.approx(float(mean), rel=1e-5)


def test_a_fit_that_was_stopped_ends_in_the_same_losses_and_weights(tmp_path: Path) -> None:
    whole = World(0.6)
    losses = whole.fit(None)
    told = [event["figures"] for event in whole.events if event["event"] == "step"]
    assert 0 < np.mean([figures["own_answers"] for figures in told]) < 1
    stopped, count = World(0.6), iter(range(100))
    with pytest.raises(Interrupted):
        stopped.fit(tmp_path, stop=lambda: next(count) == 2)
    again = World(0.6)
    assert again.fit(tmp_path) == losses[3:]
    for one, other in zip(whole.models.policy.model.parameters(), again.models.policy.model.parameters(), strict=True):
        assert torch.equal(one, other)
