"""What the experiment on distillation compares: students of the same layers, steps and rate, one of them taught."""

from __future__ import annotations

from pathlib import Path

from experiments.distill import STUDENT, begun, taught
from luthier.core.recipe import Recipe
from luthier.core.recipe_file import load_recipe

DATA = ["data.train=train.csv", "data.test=test.csv"]


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe("intents", [*DATA, *overrides])


def test_students_differ_in_nothing_but_where_they_begin_and_whom_they_learn_from() -> None:
    teacher, plain, same = recipe_of(), recipe_of(*STUDENT), recipe_of(*STUDENT, *begun(Path("runs/teacher")))
    student = recipe_of(*STUDENT, *begun(Path("runs/teacher")), taught(Path("runs/teacher")))
    assert not teacher.phases[0].keep_layers
    assert len(plain.phases[0].keep_layers) == 2
    assert (plain.model, same.model) == (teacher.model, "runs/teacher")
    alike = {"objective": None}
    assert student.phases[0].model_copy(update=alike) == same.phases[0].model_copy(update=alike)
    differ = {"adaptation": None}  # a fresh head learns faster than a head that knows the classes
    assert plain.phases[0].model_copy(update=differ) == same.phases[0].model_copy(update=differ)
    objective = student.phases[0].objective
    assert objective.sources() == {"teacher": "runs/teacher"}
    assert [own for own, _ in objective.layers] == [0, 1]
