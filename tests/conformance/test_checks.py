"""What every check keeps, on every task that it is for: scores that the findings take, and measures they can use."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conformance.world import Task, examples, home, load, settings, tokenizer_of

from luthier.core.contracts import Objective
from luthier.core.evidence import Check, CheckContext, Scores
from luthier.core.recipe import Decoding
from luthier.data.encode import Encoding
from luthier.evaluate.findings import adjust, findings
from luthier.evaluate.scores import read_scores, write_scores
from luthier.evaluate.subject import ModelSubject
from luthier.models.roles import role_of


def objective_for(check: Check, task: str) -> Objective:
    """The first objective of a task whose rows the check can take."""
    found = [objective for _, objective in settings("objectives") if objective.task == task]
    return next(objective for objective in found if not check.needs or check.needs & objective.needs)


CASES = [
    pytest.param(check, objective_for(check, task), part, id=f"{name}-{task}-{part}")
    for name, check in settings("checks")
    for task in sorted(check.tasks)
    for part in sorted(objective_for(check, task).needs & (check.needs or objective_for(check, task).needs))
]
each = pytest.mark.parametrize(("check", "objective", "part"), CASES)


def subject(name: str, task: Task, change: float = 0.0) -> ModelSubject:
    """A tiny model of the task's kind; `change` moves its weights, so that subjects differ."""
    kind = home(task.objective.task)
    loaded = load(kind, task.objective.task, task.facts)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for parameter in loaded.model.parameters():
            parameter += change * torch.randn(parameter.shape, generator=generator)
    encoding = Encoding(tokenizer_of(), max_length=128, facts=task.facts)
    role = role_of(loaded.model, loaded.tokenizer.pad_token_id)
    return ModelSubject(name, role, encoding, task.objective, Decoding(max_new_tokens=4), seed=1)


def context(task: Task) -> CheckContext:
    return CheckContext({**task.facts, "split_by": None, "dtype": "float32"}, 1, lambda path: examples("text", 8))


def measured(check: Check, task: Task) -> dict[str, Scores]:
    """The scores of every subject that the check asks for; base and the others differ."""
    given = context(task)
    items = check.examples(examples(task.part, 8, task=task.objective.task), given)
    return {
        name: check.measure(subject(name, task, 0.0 if name == "base" else 0.05), items, given)
        for name in check.subjects
    }


@each
def test_scores_are_numbers_by_row(check: Check, objective: Objective, part):
    task = Task.of(objective, part)
    for scores in measured(check, task).values():
        assert len(set(scores.rows)) == len(scores.rows) == len(scores.items) > 0
        assert scores.note
        assert scores.values
        for values in scores.values.values():
            assert values.ndim == 2
            assert len(values) == len(scores.rows)
            assert values.dtype == np.float64
        assert all(sample.row in scores.rows for sample in scores.samples)


@each
def test_measures_have_names_directions_and_sources(check: Check, objective: Objective, part):
    task = Task.of(objective, part)
    scores = measured(check, task)
    measures = check.measures(context(task).facts)
    assert len({(m.name, m.group) for m in measures}) == len(measures) > 0
    for measure in measures:
        assert measure.name.isidentifier()
        assert measure.better in ("higher", "lower", "neither")
        assert measure.against is None or measure.against in check.subjects
        assert set(measure.of or ()) <= set(check.subjects)
        for one in scores.values():
            values = one.values[measure.source or measure.name]
            if measure.binary:
                assert set(np.unique(values)) <= {0.0, 1.0}
                assert measure.aggregate(values) == pytest.approx(values.mean())
            if measure.against is None:
                assert isinstance(float(measure.aggregate(values)), float)


@each
def test_findings_come_of_it(check: Check, objective: Objective, part):
    """Each measure gives a finding for its subjects, inside its interval; the same model twice has not changed."""
    task = Task.of(objective, part)
    scores = measured(check, task)
    measures = check.measures(context(task).facts)
    found = adjust(findings(scores, measures, check.component_name(), seed=1, resamples=200))
    assert {f.metric for f in found} == {m.name for m in measures}
    for finding in found:
        assert finding.check == check.component_name()
        assert finding.subject in {*check.subjects, "change"}
        assert finding.n > 0 or math.isnan(finding.value)
        if finding.low is not None and finding.high is not None:
            assert finding.low <= finding.high
            assert math.isnan(finding.value) or finding.low <= finding.value <= finding.high
        assert math.isfinite(finding.value) or finding.note
        assert finding.p is None or 0 <= finding.p <= 1
    if {"base", "tuned"} <= set(scores):
        same = findings({"base": scores["base"], "tuned": scores["base"]}, measures, "same", seed=1, resamples=200)
        for finding in same:
            if finding.subject == "change" and not math.isnan(finding.value):
                assert finding.value == 0
                assert finding.p is None or finding.p == 1


@each
def test_measuring_repeats_itself_and_leaves_the_model_alone(check: Check, objective: Objective, part, tmp_path):
    task = Task.of(objective, part)
    given = context(task)
    name = check.subjects[0]
    one = subject(name, task)
    one.role.model.train()
    before = {key: value.clone() for key, value in one.role.model.state_dict().items()}
    items = check.examples(examples(part, 8, task=task.objective.task), given)
    scores = check.measure(one, items, given)
    again = check.measure(one, check.examples(examples(part, 8, task=task.objective.task), given), given)
    assert one.role.model.training
    assert all(torch.equal(value, before[key]) for key, value in one.role.model.state_dict().items())
    for key, values in scores.values.items():
        np.testing.assert_array_equal(values, again.values[key])
    write_scores(tmp_path, "c", name, scores)
    read = read_scores(tmp_path, "c", name)
    assert (read.rows, read.items, read.samples, read.note) == (scores.rows, scores.items, scores.samples, scores.note)
    for key, values in scores.values.items():
        np.testing.assert_array_equal(values, read.values[key])
