"""The objective reward: what holds the level of rewards where, rankings of any length, and rows of another kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conformance.world import CPU, examples, load, tokenizer_of
from torch import Tensor

from luthier.core.component import build
from luthier.core.contracts import Objective, Row
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Decoding
from luthier.data.encode import Encoding, encode_all
from luthier.engine.step import measure
from luthier.evaluate.subject import ModelSubject
from luthier.functional.packing import pack
from luthier.models.roles import Models, role_of

FACTS = {"classes": ["reward"], "multi_label": False}
PROMPT = (Turn("user", "How long does a setup take?"),)


def objective_of(**changes: Any) -> Objective:
    found = build("objectives", {"reward": changes} if changes else "reward")
    assert isinstance(found, Objective)
    return found


def ranked(number: int, *scores: float) -> Example:
    """A row with an answer for each score, the best first."""
    names = ["chosen", "rejected", *(f"rejected_{place}" for place in range(2, len(scores)))]
    parts = {name: (Turn("assistant", f"Answer {number} {name}."),) for name in names}
    target = tuple(f"{score:g}" for score in scores)
    return Example(f"r:{number}", {"prompt": PROMPT, **parts}, Origin("r.jsonl", number), target)


def rated(number: int, rating: float) -> Example:
    parts = {"prompt": PROMPT, "completion": (Turn("assistant", f"Answer {number}."),)}
    return Example(f"r:{number}", parts, Origin("r.jsonl", number), rating)


def encoded(objective: Objective, given: list[Example], kind: str) -> list[Row]:
    encoding = Encoding(tokenizer_of(), max_length=128, facts={**FACTS, "kind": kind})
    return objective.complete(encode_all(objective, given, encoding), 1)


def loss_of(given: list[Example], kind: str, **changes: Any) -> tuple[float, Tensor]:
    """The loss, and the rewards of all answers, in their order."""
    objective = objective_of(**changes)
    role = role_of(load("llama", "sequence_score", FACTS).model, 0)
    batch = pack(encoded(objective, given, kind))
    with torch.no_grad():
        rewards = role.class_logits(batch)[:, 0].double()
    return measure(objective, Models(role), [batch]).loss, rewards


def test_ratings_and_labels_are_learned_as_they_are() -> None:
    """A rating says what its reward is to be: nothing draws it to 0."""
    ratings = [rated(1, 7.5), rated(2, 3.0)]
    loss, rewards = loss_of(ratings, "ratings", center=5.0)
    wanted = (rewards - torch.tensor([7.5, 3.0])).square().mean()
    assert loss == pytest.approx(float(wanted), rel=1e-5)
    labels = examples("completion", 4)
    assert loss_of(labels, "labels", center=5.0)[0] == loss_of(labels, "labels", center=0.0)[0]


def test_the_level_that_pairs_leave_open_is_held_at_0() -> None:
    given = examples("chosen", 3)
    held, rewards = loss_of(given, "pairs", center=5.0)
    free, _ = loss_of(given, "pairs", center=0.0)
    assert held - free == pytest.approx(5.0 * float(rewards.square().mean()), rel=1e-4)


def test_a_held_out_ranking_may_be_longer_than_those_that_were_learned() -> None:
    """Which lengths come into which split is chance: neither validation nor the check may stop at it."""
    objective = objective_of()
    train, held = [ranked(1, 2, 1), ranked(2, 3, 3, 1)], [ranked(3, 5, 4), ranked(4, 5, 4, 3, 2)]
    facts = objective.survey(train)
    objective.require(held, facts)
    for given in (train, held):
        rows = encoded(objective, given, "rankings")
        levels = pack(rows).fields["levels"]
        assert levels.shape == (2, len(rows[1].branches))
        assert levels[0, :2].tolist() == [float(score) for score in given[0].target or ()]
        assert bool(levels[0, 2:].isnan().all())
    role = role_of(load("llama", "sequence_score", FACTS).model, 0)
    encoding = Encoding(tokenizer_of(), max_length=128, facts=facts)
    subject = ModelSubject("tuned", role, encoding, objective, Decoding(), 1)
    assert [len(rewards) for rewards in subject.rewards(held)] == [2, 4]
    assert np.isfinite(np.concatenate(subject.rewards(held))).all()
    assert next(role.model.parameters()).device == CPU


def test_rows_of_another_kind_are_refused_before_anything_is_trained() -> None:
    objective = objective_of()
    facts = objective.survey([ranked(1, 2, 1)])
    with pytest.raises(DataError, match="2 of 3 rows to measure on hold ratings, the first is 'r:2'") as refused:
        objective.require([ranked(1, 2, 1), rated(2, 1.0), rated(3, 2.0)], facts)
    assert refused.value.problems[0].expected == "rankings, as the training rows do"
